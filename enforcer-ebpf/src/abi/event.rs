//! What the kernel tells of single packets.

use bytemuck::{Pod, Zeroable};

use super::Verdict;

/// Bytes of a packet that an event carries at most: all headers that the parser reads of usual packets, and of most others.
pub const CAPTURE: usize = 128;

/// Where a packet was that makes an event.
pub mod hook {
    /// A client's, on a LAN.
    pub const LAN: u8 = 0;
    /// The gateway's own, on its way to a WAN.
    pub const ROUTER: u8 = 1;
    /// Forwarded to a WAN from an interface that no policy covers.
    pub const UNLISTED: u8 = 2;
}

/// What the kernel tells of a sampled packet, by the `EVENTS` ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Event {
    /// Nanoseconds of the kernel's monotonic clock.
    pub time: u64,
    /// Its verdict.
    pub verdict: Verdict,
    /// Index of the interface that it came in by; the one it leaves by if the gateway sent it.
    pub interface: u32,
    /// Its length with the link-layer header, bytes.
    pub length: u32,
    /// EtherType if `bytes` begin with the network header, else 0: they begin with Ethernet.
    pub kind: u16,
    /// One of [`hook`].
    pub hook: u8,
    /// How many of `bytes` are the packet's.
    pub captured: u8,
    /// Its first bytes.
    pub bytes: [u8; CAPTURE],
}
