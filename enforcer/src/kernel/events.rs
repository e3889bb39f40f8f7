//! What the kernel's programs tell of single packets, as it comes out of the ring buffer.

use aya::maps::{MapData, PerCpuArray, RingBuf};
use enforcer_ebpf::abi::{Event, lost};

use super::{KernelError, ring};

/// The events' ring buffer and the count of those that it did not take.
pub struct Events {
    pub(super) ring: RingBuf<MapData>,
    pub(super) lost: PerCpuArray<MapData, u64>,
}

impl Events {
    /// Hands over events for good, as they come: some at a time, and how many more were lost.
    ///
    /// # Errors
    /// If the ring buffer cannot be waited for.
    pub async fn follow(self, mut take: impl FnMut(&[Event], u64)) -> Result<(), KernelError> {
        let Self { ring, lost } = self;
        let read = |bytes: &[u8]| bytemuck::try_pod_read_unaligned(bytes).ok();
        let mut before = 0;
        let take = |events: &[Event]| {
            let all = count(&lost);
            take(events, all.saturating_sub(std::mem::replace(&mut before, all)));
        };
        ring::follow(ring, read, take).await
    }
}

/// Events lost for whatever reason, on all CPUs.
fn count(lost: &PerCpuArray<MapData, u64>) -> u64 {
    let reasons = (0..lost::REASONS).filter_map(|reason| lost.get(&reason, 0).ok());
    reasons.map(|by_cpu| by_cpu.iter().sum::<u64>()).sum()
}
