//! What may happen only so often on each CPU.

use aya_ebpf::{
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::map,
    maps::PerCpuArray,
};

/// What is counted.
#[repr(u32)]
#[derive(Clone, Copy)]
pub enum Budget {
    /// Answers to rejected packets.
    Answers = 0,
    /// ICMP errors that pass by what they quote.
    Errors = 1,
    /// Events to user space.
    Events = 2,
}

/// So many at once; each is earned back in a millisecond.
const BURST: u64 = 1000;
const EARNED_IN: u64 = 1_000_000;

/// When the last one was earned, by the kernel's coarse clock in nanoseconds: it is right to a timer tick, and costs a tenth of the fine one.
#[map]
static EARNED: PerCpuArray<u64> = PerCpuArray::with_max_entries(3, 0);
/// The timer tick in which there was none.
#[map]
static SPENT: PerCpuArray<u64> = PerCpuArray::with_max_entries(3, 0);

impl Budget {
    /// Takes one, if there is one.
    #[inline(always)]
    #[must_use]
    pub fn take(self) -> bool {
        let Some(earned) = EARNED.get_ptr_mut(self as u32) else { return false };
        // SAFETY: the cell is this CPU's own, and programs on one CPU do not preempt each other at this hook; the helper has no effect.
        unsafe {
            let now = bpf_ktime_get_coarse_ns();
            let next = (*earned).max(now.saturating_sub(BURST * EARNED_IN)) + EARNED_IN;
            if next > now {
                if let Some(spent) = SPENT.get_ptr_mut(self as u32) {
                    *spent = bpf_jiffies64();
                }
                return false;
            }
            *earned = next;
        }
        true
    }
    /// Whether it is known that there is none: nothing is earned within a tick. A few loads, as the verifier puts this helper's in its
    /// place, and from Linux 6.10 on the map's look-up.
    #[inline(always)]
    #[must_use]
    pub fn is_spent(self) -> bool {
        // SAFETY: the helper has no arguments and no effect.
        SPENT.get(self as u32).is_some_and(|tick| *tick == unsafe { bpf_jiffies64() })
    }
}
