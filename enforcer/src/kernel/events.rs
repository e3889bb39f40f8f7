//! What the kernel's programs tell of single packets, as it comes out of the ring buffer.

use aya::maps::{MapData, PerCpuArray, RingBuf};
use enforcer_ebpf::abi::{Event, lost};
use tokio::io::{Interest, unix::AsyncFd};

use super::KernelError;

/// The events' ring buffer and the count of those that it did not take.
pub struct Events {
    pub(super) ring: RingBuf<MapData>,
    pub(super) lost: PerCpuArray<MapData, u64>,
}

impl Events {
    /// Hands over events for good, as they come: some at a time, and how many were lost so far, in all.
    ///
    /// # Errors
    /// If the ring buffer cannot be waited for.
    pub async fn follow(self, mut take: impl FnMut(&[Event], u64)) -> Result<(), KernelError> {
        /// So many, then others have their turn.
        const BATCH: usize = 256;
        let Self { ring, lost } = self;
        // SAFETY: the ring buffer owns its descriptor and is owned by what is made here.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let mut ring = ring.map_err(|refused| KernelError::Events(refused.into()))?;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let mut ready = ring.readable_mut().await.map_err(KernelError::Events)?;
            while batch.len() < BATCH
                && let Some(bytes) = ready.get_inner_mut().next()
            {
                batch.extend(bytemuck::try_pod_read_unaligned::<Event>(&bytes));
            }
            if batch.len() < BATCH {
                ready.clear_ready();
            }
            take(&batch, count(&lost));
            batch.clear();
            tokio::task::yield_now().await;
        }
    }
}

/// Events lost for whatever reason, on all CPUs.
fn count(lost: &PerCpuArray<MapData, u64>) -> u64 {
    let reasons = (0..lost::REASONS).filter_map(|reason| lost.get(&reason, 0).ok());
    reasons.map(|by_cpu| by_cpu.iter().sum::<u64>()).sum()
}
