//! What is remembered of packets for those that follow: heads of fragments, connections from outside.

use bytemuck::{Pod, Zeroable};

use super::{Verdict, Words6};

/// Version of what is here and in [`super::dns`]: raised when a type changes its meaning, so that another version's maps are not taken for these.
pub const STATE_VERSION: u32 = 1;

/// Key of the fragment table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FragmentKey {
    /// Source, IPv4 in the last word.
    pub source: Words6,
    /// Destination.
    pub destination: Words6,
    /// Identification.
    pub id: u32,
    /// Protocol in the lowest byte, IP version in the next.
    pub protocol: u32,
}

/// An allowed head of a fragmented packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FragmentHead {
    /// The head's verdict.
    pub verdict: Verdict,
    /// Where its payload ended, in bytes of the whole: a later fragment starts there or behind.
    pub end: u32,
    /// The [`super::Net::generation`] that the verdict's numbers are of.
    pub generation: u32,
}

/// Key of the reply table: a connection from outside, seen from the inside.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FlowKey {
    /// The address behind the gateway, or the gateway's own.
    pub inside: Words6,
    /// The one that opened the connection.
    pub outside: Words6,
    /// Port inside; the identifier for ICMP echo.
    pub inside_port: u16,
    /// Port outside; the identifier for ICMP echo.
    pub outside_port: u16,
    /// IP protocol.
    pub protocol: u32,
}

/// States of a connection from outside: which of its time-outs counts.
pub mod flow {
    /// TCP that the inside has answered.
    pub const TCP: u32 = 0;
    /// TCP that it has not.
    pub const TCP_OPENING: u32 = 1;
    /// TCP behind a FIN or RST.
    pub const TCP_CLOSING: u32 = 2;
    /// UDP and UDP-Lite that the inside has answered.
    pub const UDP: u32 = 3;
    /// UDP and UDP-Lite that it has not.
    pub const UDP_OPENING: u32 = 4;
    /// ICMP and ICMPv6.
    pub const ICMP: u32 = 5;
    /// SCTP.
    pub const SCTP: u32 = 6;
    /// Any other protocol.
    pub const OTHER: u32 = 7;
    /// How many there are; a power of two.
    pub const STATES: usize = 8;
}

/// Value of the reply table; aligned, so that it is exchanged as a whole.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Flow {
    /// When its last packet passed, in seconds of the kernel's monotonic clock.
    pub seen: u32,
    /// One of [`flow`].
    pub state: u32,
}
