//! What the kernel programs and user space share: table cells, verdict words, map keys.
//!
//! Every type is `repr(C)` without padding and its size is asserted. Addresses are in host byte order: an IPv4 address
//! is a `u32`, an IPv6 address four `u32` words, most significant first.

use bytemuck::{Pod, Zeroable};

mod budget;
mod clients;
pub mod dns;
mod event;
mod net;
mod state;
mod verdict;

pub use budget::*;
pub use clients::*;
pub use event::*;
pub use net::*;
pub use state::*;
pub use verdict::*;

/// Cells of one trie block, and words of one element of the `BLOCKS` map. A policy's class tables and blocks are one space of words; the
/// word with number `i` is word `i % 256` of block `i / 256`.
pub const BLOCK_WORDS: usize = 256;
/// A policy's first blocks lie in its [`Root`]: a load there is three instructions, where a map element is a dozen and a detour through
/// memory for its key.
pub const INLINE_BLOCKS: usize = 256;
/// Words of the inline blocks; a power of two.
pub const INLINE_WORDS: usize = INLINE_BLOCKS * BLOCK_WORDS;
/// Blocks of the network's tries: two halves, one in use while the other is filled.
pub const NET_BLOCKS: usize = 1024;
/// Words of those; a power of two.
pub const NET_WORDS: usize = NET_BLOCKS * BLOCK_WORDS;
/// A trie block, or 256 words of the class tables.
pub type Block = [u32; BLOCK_WORDS];
/// An IPv6 address as four words, most significant first.
pub type Words6 = [u32; 4];

/// A cell of a stride trie: a class, or the way to it.
///
/// | bit | meaning |
/// |---|---|
/// | 31 | root cells: addresses of names, or IPv6 hosts, lie below: ask the host table first |
/// | 30 | root cells: the value is that of a [`crate::group`] or a [`crate::span`] (IPv4); prefixes longer than /64 lie below, ask the `LONG6` map (IPv6) |
/// | 29 | the value is the number of a child block |
/// | 28 | the value is the number of the first word of a node: a [`Single`] (IPv4) or a [`Skip`] (IPv6) |
/// | 0–27 | the value; without bits 29 and 28 it is the leaf: a class |
///
/// What is rare is on top, so that what a cell is shows by comparing it.
pub mod cell {
    /// Hosts lie below this root cell.
    pub const HOSTS: u32 = 1 << 31;
    /// Prefixes of /65 to /127 lie below this IPv6 root cell.
    pub const LONG: u32 = 1 << 30;
    /// The value of this IPv4 root cell is that of a group or a span.
    pub const LINES: u32 = LONG;
    /// The value is a child block's number.
    pub const BLOCK: u32 = 1 << 29;
    /// The value is the number of a node's first word.
    pub const NODE: u32 = 1 << 28;
    /// The value's bits.
    pub const VALUE: u32 = NODE - 1;
    /// All but what only root cells have.
    pub const TRIE: u32 = BLOCK | NODE | VALUE;
}

/// The one prefix below a root cell of an IPv4 trie, where there is no other: 16 bytes instead of a block of 1,024, so that a small table stays in the first cache.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Single {
    /// The prefix's address.
    pub address: u32,
    /// Its mask.
    pub mask: u32,
    /// The leaf of addresses that it covers.
    pub hit: u32,
    /// The leaf of the others.
    pub miss: u32,
}

/// Bits of an IPv6 trie that are compared at once: 2 to 6 strides that follow each other with a single way on, or all that is left of the one prefix below a cell.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Skip {
    /// The next four address bytes; what is not compared is zero.
    pub high: u32,
    /// The two after them, in the upper half; in the lower half how many bits are compared, 1 to 48: a multiple of 8 unless `hit` is a leaf.
    pub low: u32,
    /// The cell to go on with when they are equal.
    pub hit: u32,
    /// The leaf when they are not.
    pub miss: u32,
}

/// Words of a [`Single`] or a [`Skip`]: 64 of them share a block.
pub const NODE_WORDS: usize = 4;
const _: () = assert!(size_of::<Single>() == 4 * NODE_WORDS && size_of::<Skip>() == 4 * NODE_WORDS);

/// Words of a row unit: the row of class `c` starts at word `c * ROW_UNIT`.
///
/// A row is `[table, verdict of the first clause, …]` and takes as many units as it needs; the class of a destination is the number of its row's first
/// unit. `table` is the number of the first word of a table `[port class] → word of the row`, where 0 means the default; or, if there are several
/// source classes, the number of a word which, the source's leaf added, is that of the cell that has the former.
pub const ROW_UNIT: u32 = 2;

/// Port slots: which 65,536 cells of [`Root::ports`] a protocol uses, and what selects the cell.
pub mod slot {
    /// Selected by the protocol number.
    pub const PORTLESS: u32 = 0;
    /// Selected by the destination port.
    pub const TCP: u32 = 1;
    /// Selected by the destination port.
    pub const UDP: u32 = 2;
    /// Selected by the destination port.
    pub const SCTP: u32 = 3;
    /// Selected by `type << 8 | code`.
    pub const ICMP: u32 = 4;
    /// Selected by `type << 8 | code`.
    pub const ICMPV6: u32 = 5;
    /// Selected by the destination port.
    pub const UDPLITE: u32 = 6;
    /// Slots there are; a power of two, so that an index is masked, not compared.
    pub const COUNT: usize = 8;
}
/// Cells of [`Root::ports`].
pub const PORT_CELLS: usize = slot::COUNT << 16;
/// Beside a port cell's index: the packet belongs to a connection that stands. TCP without SYN, and QUIC with a short header (RFC 8999, 5.2), do.
pub const STANDS: u32 = 1 << 20;
/// Beside a port cell's index: the portal has admitted the client.
pub const ADMITTED: u32 = 1 << 21;

/// Where a policy's further blocks lie in `BLOCKS`, and its hosts in `HOSTS4` and `HOSTS6`, in buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Layout {
    /// Source classes by moments; 1 means that no rule names a source or a schedule, and that there is one table for all.
    pub source_classes: u32,
    /// Element of `BLOCKS` that is the policy's block number [`INLINE_BLOCKS`].
    pub blocks: u32,
    /// First bucket in `HOSTS4`.
    pub hosts4: u32,
    /// Buckets in `HOSTS4` less one; there is a power of two of them.
    pub hosts4_mask: u32,
    /// First bucket in `HOSTS6`.
    pub hosts6: u32,
    /// Buckets in `HOSTS6` less one.
    pub hosts6_mask: u32,
    /// Added to a source's leaf: where the tables of the present moment begin. The schedules' one word that changes with time.
    pub moment: u32,
    /// Key of the host hash, random per load.
    pub seed: u32,
    /// Verdict where no clause matches.
    pub default: Verdict,
    /// Added for clients that the portal has admitted; zero without a portal.
    pub admitted: u32,
    /// Element of `BLOCKS` where the lines of the policy's groups and spans begin.
    pub lines: u32,
    /// Zero.
    pub reserved: u32,
}

/// The fixed-size part of one policy: trie roots and port classes. What is asked for most is first, as in [`Net`].
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Root {
    /// Where the rest lies.
    pub layout: Layout,
    /// The policy's first words: class tables, then trie blocks.
    pub words: [u32; INLINE_WORDS],
    /// IPv4 destinations by their upper 16 bits; leaves are row classes.
    pub dst4: [u32; 1 << 16],
    /// IPv6 destinations.
    pub dst6: [u32; 1 << 16],
    /// IPv4 sources; leaves are offsets of source classes, see [`ROW_UNIT`].
    pub src4: [u32; 1 << 16],
    /// IPv6 sources.
    pub src6: [u32; 1 << 16],
    /// Port classes by `slot << 16 | selector`.
    pub ports: [u16; PORT_CELLS],
}
const _: () = assert!(size_of::<Root>() == 4 * 4 * 65_536 + 2 * PORT_CELLS + 48 + 4 * INLINE_WORDS);

/// The policies that a packet may be judged by, and their index in [`Net::roots`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyId {
    /// Packets that clients send through the gateway.
    Lan = 0,
    /// Packets that the gateway itself sends.
    Router = 1,
    /// Connections from outside whose replies may pass.
    Inbound = 2,
}
/// How many there are.
pub const POLICIES: usize = 3;

/// Cells of a host bucket; with 8 bytes each, a bucket is one cache line.
pub const BUCKET_CELLS: usize = 8;
/// A bucket of the host tables. Zero is an empty cell. User space writes whole cells; the kernel only the epoch's two bytes.
///
/// | bits | meaning |
/// |---|---|
/// | 0–31 | IPv4 address, or the keyed fingerprint of an IPv6 address; 0 is empty, all ones a tombstone |
/// | 32–46 | class |
/// | 47 | draining: only for packets of connections that stand |
/// | 48–63 | epoch in which such a packet passed last |
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Bucket(pub [u64; BUCKET_CELLS]);
/// What a removed host leaves in its cell, so that a probe does not stop there. No answer opens the broadcast address.
pub const TOMBSTONE: u32 = u32::MAX;
/// The IPv6 addresses of a bucket's cells.
pub type Keys6 = [Words6; BUCKET_CELLS];

/// The bit of a draining host, beside its class.
pub const DRAINING: u16 = 1 << 15;

/// A host cell from its parts.
#[must_use]
#[inline(always)]
pub const fn host_cell(tag: u32, class: u16, epoch: u16) -> u64 {
    tag as u64 | (class as u64) << 32 | (epoch as u64) << 48
}

/// Key of the kernel hash that takes the hosts of full buckets: the policy, then the address (IPv4 in the last word).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct OverflowKey {
    /// A [`PolicyId`], plus 4 for IPv6.
    pub space: u32,
    /// The address.
    pub address: Words6,
}

/// Key data of the `LONG6` LPM map: the policy and the address, both in network byte order as LPM tries compare bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct LongKey {
    /// A [`PolicyId`], plus 4 for its sources, big-endian; always matched in full (32 bits of the prefix length).
    pub space: [u8; 4],
    /// The address.
    pub address: [u8; 16],
}
