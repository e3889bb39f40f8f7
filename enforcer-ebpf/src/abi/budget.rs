//! What may happen only so often on each CPU.

use bytemuck::{Pod, Zeroable};

/// What is counted: an element of `BUDGETS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Answers to rejected packets.
    Answers = 0,
    /// ICMP errors that pass by what they quote.
    Errors = 1,
    /// Events to user space.
    Events = 2,
}
/// Elements of `BUDGETS`.
pub const BUDGETS: u32 = 3;

/// A budget on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Spending {
    /// When the last one was earned, by the kernel's coarse clock in nanoseconds: it is right to a timer tick, and costs a tenth of the fine one.
    pub earned: u64,
    /// The timer tick in which there was none.
    pub spent: u64,
    /// How often there was none.
    pub refused: u64,
}
const _: () = assert!(size_of::<Spending>() == 24);
