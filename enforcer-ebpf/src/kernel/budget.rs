//! Budgets, as programs spend them.

use aya_ebpf::{
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns},
    macros::map,
    maps::PerCpuArray,
};

pub use crate::abi::Budget;
use crate::abi::{self, Spending};

/// So many at once; each is earned back in a millisecond.
const BURST: u64 = 1000;
const EARNED_IN: u64 = 1_000_000;

#[map]
static BUDGETS: PerCpuArray<Spending> = PerCpuArray::with_max_entries(abi::BUDGETS, 0);

impl Budget {
    /// Takes one, if there is one.
    #[inline(always)]
    #[must_use]
    pub fn take(self) -> bool {
        let Some(spending) = BUDGETS.get_ptr_mut(self as u32) else { return false };
        // SAFETY: the cell is this CPU's own, and programs on one CPU do not preempt each other at this hook; the helpers have no effect.
        unsafe {
            let now = bpf_ktime_get_coarse_ns();
            let next = (*spending).earned.max(now.saturating_sub(BURST * EARNED_IN)) + EARNED_IN;
            if next > now {
                (*spending).spent = bpf_jiffies64();
                (*spending).refused += 1;
                return false;
            }
            (*spending).earned = next;
        }
        true
    }

    /// Whether it is known that there is none, which counts as refused: nothing is earned within a tick. A few loads, as the verifier puts this helper's in its
    /// place, and from Linux 6.10 on the map's look-up.
    #[inline(always)]
    #[must_use]
    pub fn refuses(self) -> bool {
        let Some(spending) = BUDGETS.get_ptr_mut(self as u32) else { return false };
        // SAFETY: as above.
        unsafe {
            let refuses = (*spending).spent == bpf_jiffies64();
            if refuses {
                (*spending).refused += 1;
            }
            refuses
        }
    }
}
