//! What is shared about DNS messages on their way past a LAN.

use bytemuck::{Pod, Zeroable};

use super::Words6;

/// Longer answers are not looked into, bytes: resolvers send no longer ones by UDP.
pub const LONGEST_ANSWER: usize = 4096;
/// How long a query waits for its answer, nanoseconds.
pub const PATIENCE: u64 = 10_000_000_000;
/// Resolvers whose answers count, at most.
pub const RESOLVERS: u32 = 64;

/// Key of the table of queries without an answer; the value is when each passed, in nanoseconds of the kernel's monotonic clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct QueryKey {
    /// Who asks, IPv4 in the last word.
    pub client: Words6,
    /// Who is asked, likewise.
    pub resolver: Words6,
    /// Hash of the question.
    pub question: u64,
    /// The message's id.
    pub id: u16,
    /// The client's port.
    pub port: u16,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<QueryKey>() == 48);

/// Elements of `OUTCOMES`: what became of messages, by CPU.
pub mod outcome {
    /// An answer was handed over.
    pub const TAKEN: u32 = 0;
    /// The ring buffer had no room for one.
    pub const LOST: u32 = 1;
    /// An answer that nobody asked for, or not so, or not lately, or that came already.
    pub const UNASKED: u32 = 2;
    /// A packet in a resolver's name from where that resolver is not.
    pub const FORGED: u32 = 3;
    /// What came from a resolver's port is no answer.
    pub const MALFORMED: u32 = 4;
    /// An answer in fragments.
    pub const FRAGMENTED: u32 = 5;
    /// A resolver accepted a TCP connection.
    pub const TCP: u32 = 6;
    /// An answer says that there is more by TCP.
    pub const TRUNCATED: u32 = 7;
    /// An answer is longer than [`super::LONGEST_ANSWER`].
    pub const TOO_LONG: u32 = 8;
    /// A query was not remembered, as its client had sent too many.
    pub const OVER_LIMIT: u32 = 9;
    /// How many there are.
    pub const COUNT: u32 = 10;
}
