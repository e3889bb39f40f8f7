//! What the kernel's programs tell of single packets, as it comes out of the ring buffer.

use aya::maps::{MapData, PerCpuArray, RingBuf};
use enforcer_ebpf::abi::{Budget, Event, Spending};

use super::{KernelError, ring, take::Raw};

/// The events' ring buffer and the counts of those that are not in it.
pub struct Events {
    pub(super) ring: RingBuf<MapData>,
    pub(super) lost: Lost,
}

/// Events that were not told.
pub struct Lost {
    /// Beyond a thousand a second.
    pub(super) budgets: PerCpuArray<MapData, Raw<Spending>>,
    /// The ring buffer was full.
    pub(super) full: PerCpuArray<MapData, u64>,
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
            let all = lost.count();
            take(events, all.saturating_sub(std::mem::replace(&mut before, all)));
        };
        ring::follow(ring, read, take).await
    }
}

impl Lost {
    /// Events lost for whatever reason, on all CPUs.
    fn count(&self) -> u64 {
        let limited = self.budgets.get(&(Budget::Events as u32), 0);
        let limited: u64 = limited.iter().flat_map(|by_cpu| by_cpu.iter()).map(|Raw(spending)| spending.refused).sum();
        let full: u64 = self.full.get(&0, 0).iter().flat_map(|by_cpu| by_cpu.iter()).sum();
        limited + full
    }
}
