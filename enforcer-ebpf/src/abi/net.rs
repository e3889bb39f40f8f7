//! What is found by its place alone: what the gateway knows of interfaces and addresses, with the policies' roots among it.

use bytemuck::{Pod, Zeroable};

use super::{Layout, NET_WORDS, POLICIES, Root, flow, pseudo};

/// Leaf of the network tries: what the gateway knows of an address from its own interfaces and routes.
pub mod place {
    /// Zone bits: which LAN the routing table leads to; 0 is none.
    pub const ZONE: u32 = 0xff;
    /// An address of the gateway itself.
    pub const OWN: u32 = 1 << 8;
    /// Reached without leaving: connected LAN, multicast, broadcast, link-local.
    pub const LOCAL: u32 = 1 << 9;
    /// Link-local: a valid source on any LAN.
    pub const LINK_LOCAL: u32 = 1 << 10;
    /// IPv6: prefixes longer than this /64 say more of a destination; ask the `PLACES6` map.
    pub const BELOW: u32 = 1 << 11;
    /// IPv6: they say more of a source, too.
    pub const ZONES_BELOW: u32 = 1 << 12;
    /// IPv6: single addresses in this /64 are no sources; those whose bit is set in [`super::Net::hosts6`] may be among them.
    pub const HOSTS_BELOW: u32 = 1 << 13;
}

/// Zones, with that of no LAN.
pub const ZONES: usize = place::ZONE as usize + 1;

/// A run of addresses in one cell, so that it is read at once: the first one in the lower half, in the upper how many.
#[must_use]
#[inline(always)]
pub const fn run_of(first: u32, count: u32) -> u64 {
    (count as u64) << 32 | first as u64
}

/// Whether an address is in a run ([`run_of`]).
#[must_use]
#[inline(always)]
pub const fn is_in_run(run: u64, address: u32) -> bool {
    address.wrapping_sub(run as u32) < (run >> 32) as u32
}

/// Interfaces that `NET` can describe; an interface's cell is its index modulo this.
pub const INTERFACES: usize = 4096;

/// One interface's cell in `NET`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Interface {
    /// What it is.
    pub role: Role,
    /// Its link-layer address, in network byte order; zero if it has none.
    pub mac: [u16; 3],
    /// Zero.
    pub padding: u16,
}

const _: () =
    assert!(size_of::<Interface>() == 16 && size_of::<Role>() == 8 && core::mem::offset_of!(Interface, role) == 0);

impl Interface {
    /// [`Self::role`], by one load: field by field, each has an address of its own.
    #[must_use]
    #[inline(always)]
    pub fn role(&self) -> Role {
        // SAFETY: the first field is eight plain bytes, aligned as their whole.
        bytemuck::cast(unsafe { core::ptr::from_ref(self).cast::<u64>().read_volatile() })
    }
}

/// What an interface is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Role {
    /// The whole interface index; 0 is an empty cell.
    pub index: u32,
    /// Zero.
    pub reserved: u8,
    /// 1 if frames carry no link-layer header (ppp, tun, WireGuard).
    pub layer3: u8,
    /// 1 if whatever comes in by it has been judged: a program is on it, or on every port of it.
    pub judged: u8,
    /// The LAN it belongs to, 1 to 255; 0 for a WAN. Last, as its place in a register tells it from the others by a shift alone.
    pub zone: u8,
}

/// The one value of `NET`: whatever is found by its place, so that a packet's way begins with a single look-up. Words and roots are the policies'; all that is
/// said of interfaces and addresses follows them as they change.
///
/// What is asked for most lies in the first 32 KiB, or begins there: such a place is part of the load's instruction, any other is added before.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Net {
    /// 1 if sources must belong behind the interface they came from.
    pub strict_sources: u32,
    /// 1 if replies to connections from outside may pass: an inbound rule exists.
    pub replies: u32,
    /// Seconds after its last packet for which a connection from outside is remembered, by [`Flow::state`].
    pub timeouts: [u32; flow::STATES],
    /// Number of the set of tables that this is part of: what outlives a policy says by it whose it is.
    pub generation: u32,
    /// Epoch that host cells are stamped with.
    pub epoch: u32,
    /// Verdict words by pseudo rule: the policy's word on what no rule names.
    pub pseudo: [u32; 16],
    /// By the upper 8 bits of an IPv4 destination: 1 if a local or own address lies below, so that the trie is asked. Few, so that they stay in the first cache: a bit by /16 spared
    /// the trie more destinations, but was asked for all.
    pub near4: [u8; 1 << 8],
    /// By the upper 16 bits of an IPv6 destination, a bit that is 1 if such an address lies below.
    pub near6: [u32; 1 << 11],
    /// By zone: the longest run ([`run_of`]) of IPv4 sources that belong there. Of all others, the trie knows.
    pub sources4: [u64; ZONES],
    /// A bit per hash of a single IPv6 address that `PLACES6` knows: most clients' addresses are told from it without a search.
    pub hosts6: [u32; 64],
    /// Roots by [`super::PolicyId`]; the clients' comes first, as most packets are theirs.
    pub roots: [Root; POLICIES],
    /// Blocks of the tries.
    pub words: [u32; NET_WORDS],
    /// IPv4 places by the upper 16 bits; blocks are in `words`.
    pub place4: [u32; 1 << 16],
    /// IPv6 places.
    pub place6: [u32; 1 << 16],
    /// Interfaces by index modulo [`INTERFACES`].
    pub interfaces: [Interface; INTERFACES],
}
const _: () = assert!(pseudo::COUNT <= 16 && core::mem::offset_of!(Net, roots) + size_of::<Layout>() + 12 < 1 << 15);
