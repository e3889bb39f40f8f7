//! Clients that the portal has admitted, by address, by prefix, and by station.

use bytemuck::{Pod, Zeroable};

use super::Words6;

/// Clients that may be admitted at a time, addresses, prefixes and stations together.
pub const ADMISSIONS: u32 = 65_536;

/// What a [`ClientKey`] names, and the first word of the prefixes' keys.
pub mod kind {
    /// An IPv4 address, in the last word.
    pub const IPV4: u32 = 4;
    /// An IPv6 address.
    pub const IPV6: u32 = 6;
    /// A link-layer address of 48 bits, its first byte uppermost, in the last two words.
    pub const STATION: u32 = 48;
}

/// Key of `ADMITTED`, a hash; prefixes that are no single address are in `ADMITTED_NETS`, an LPM trie by [`super::LongKey`]. Values are the time at which the
/// admission ends, in nanoseconds of the kernel's monotonic clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ClientKey {
    /// One of [`kind`].
    pub kind: u32,
    /// Which one.
    pub address: Words6,
}

impl ClientKey {
    /// The key of a station.
    #[must_use]
    #[inline(always)]
    pub const fn station(mac: u64) -> Self {
        Self { kind: kind::STATION, address: [0, 0, (mac >> 32) as u32, mac as u32] }
    }
}
