//! What the kernel programs and user space share: table cells, verdict words, map keys.
//!
//! Every type is `repr(C)` without padding and its size is asserted. Addresses are in host byte order: an IPv4 address
//! is a `u32`, an IPv6 address four `u32` words, most significant first.

use bytemuck::{Pod, Zeroable};

pub mod dns;

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
/// | 31 | the value is the number of a child block |
/// | 30 | the value is the number of a [`Skip`] node (IPv6) |
/// | 29 | root cells: host addresses lie below, ask the host table first |
/// | 28 | root cells: prefixes longer than /64 lie below, ask the `LONG6` map (IPv6) |
/// | 0–27 | the value; without bits 31 and 30 it is the leaf: a class |
pub mod cell {
    /// The value is a child block's number.
    pub const BLOCK: u32 = 1 << 31;
    /// The value is a skip node's number.
    pub const SKIP: u32 = 1 << 30;
    /// Hosts lie below this root cell.
    pub const HOSTS: u32 = 1 << 29;
    /// Prefixes of /65 to /127 lie below this root cell.
    pub const LONG: u32 = 1 << 28;
    /// The value's bits.
    pub const VALUE: u32 = LONG - 1;
}

/// A path-compressed run of an IPv6 trie, packed into 8 words of a block: 32 skip nodes share a block.
///
/// Where 2 to 6 strides follow each other with a single way on, the node compares them at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Skip {
    /// How many address bytes are compared, 1 to 6.
    pub bytes: u32,
    /// The next four address bytes, those not compared are zero.
    pub high: u32,
    /// The two after them, in the upper half.
    pub low: u32,
    /// The cell to go on with when they are equal.
    pub hit: u32,
    /// The leaf when they are not.
    pub miss: u32,
    /// Zero.
    pub reserved: [u32; 3],
}
/// Words of a [`Skip`] node.
pub const SKIP_WORDS: usize = size_of::<Skip>() / 4;
const _: () = assert!(SKIP_WORDS == 8);

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
    /// Zero.
    pub reserved: [u32; 3],
}

/// The fixed-size part of one policy: trie roots and port classes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Root {
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
    /// Where the rest lies.
    pub layout: Layout,
    /// The policy's first words: class tables, then trie blocks.
    pub words: [u32; INLINE_WORDS],
}
const _: () = assert!(size_of::<Root>() == 4 * 4 * 65_536 + 2 * PORT_CELLS + 48 + 4 * INLINE_WORDS);

/// The policies that a packet may be judged by, and their index in `ROOTS`.
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
/// Elements of `ROOTS`.
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
/// What a removed host leaves in its cell, so that a probe does not stop there. Broadcast is never a host.
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

/// A packet's fate with the counter that records it, as stored in rows.
///
/// | bits | meaning |
/// |---|---|
/// | 0–23 | counter |
/// | 24–25 | action |
/// | 26–31 | sampling: 0 makes no events, else the element of `SAMPLES` that says one in how many packets does; 63 is no word |
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Verdict(pub u32);

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes on.
    Allow,
    /// It vanishes.
    Drop,
    /// Its sender is told at once.
    Reject,
    /// It goes on, though a rule would have denied it.
    Monitor,
}

impl Action {
    /// Whether the packet goes on.
    #[must_use]
    #[inline(always)]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Allow | Self::Monitor)
    }
}

impl Verdict {
    /// The largest counter index.
    pub const MAX_COUNTER: u32 = (1 << 24) - 1;

    /// A verdict from its parts; the counter's upper 8 bits are cut off.
    #[must_use]
    #[inline(always)]
    pub const fn new(action: Action, counter: u32) -> Self {
        Self((action as u32) << 24 | counter & Self::MAX_COUNTER)
    }

    /// Number of sampling rates, zero included.
    pub const SAMPLINGS: u32 = 63;

    /// The same with events at a sampling rate.
    #[must_use]
    #[inline(always)]
    pub const fn sampled(self, sampling: u32) -> Self {
        Self(self.0 & !(0x3f << 26) | sampling << 26)
    }

    /// The sampling rate's number.
    #[must_use]
    #[inline(always)]
    pub const fn sampling(self) -> u32 {
        self.0 >> 26
    }

    /// The counter to add to.
    #[must_use]
    #[inline(always)]
    pub const fn counter(self) -> u32 {
        self.0 & Self::MAX_COUNTER
    }

    /// The action.
    #[must_use]
    #[inline(always)]
    pub const fn action(self) -> Action {
        match self.0 >> 24 & 3 {
            0 => Action::Allow,
            1 => Action::Drop,
            2 => Action::Reject,
            _ => Action::Monitor,
        }
    }
}

/// Counters of what no rule names; the policies' clauses follow from [`pseudo::COUNT`] on.
pub mod pseudo {
    /// No rule of the LAN policy matched.
    pub const DEFAULT: u32 = 0;
    /// No rule of the router policy matched.
    pub const ROUTER_DEFAULT: u32 = 1;
    /// To the gateway, a connected LAN, multicast, broadcast or link-local.
    pub const LOCAL: u32 = 2;
    /// ARP, link-layer control protocols and other frames without IP that keep a LAN alive.
    pub const NON_IP_EXEMPT: u32 = 3;
    /// Any other frame without IP.
    pub const NON_IP: u32 = 4;
    /// Truncated or inconsistent headers.
    pub const MALFORMED: u32 = 5;
    /// A later fragment whose head was not seen or not allowed, or that overlaps it.
    pub const FRAGMENT: u32 = 6;
    /// A source address that does not belong behind the interface it came from.
    pub const SOURCE: u32 = 7;
    /// A reply to a connection from outside that the inbound policy names.
    pub const REPLY: u32 = 8;
    /// Forwarded by way of an interface that no policy covers.
    pub const UNLISTED: u32 = 9;
    /// The tables contradict themselves: a defect, always dropped.
    pub const FAULT: u32 = 10;
    /// An ICMP error about a connection that may be.
    pub const ICMP_ERROR: u32 = 11;
    /// IPv4 source routes and IPv6 routing headers.
    pub const SOURCE_ROUTE: u32 = 12;
    /// How many there are.
    pub const COUNT: u32 = 13;
    /// Their names, by index, as operators read them.
    pub const NAMES: [&str; COUNT as usize] = [
        "default",
        "router-default",
        "local",
        "non-ip-exempt",
        "non-ip",
        "malformed",
        "fragment",
        "source",
        "reply",
        "unlisted",
        "fault",
        "icmp-error",
        "source-route",
    ];
}

/// A rule's counter on one CPU. `COUNTERS` has all counters of the first CPU, then those of the next.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counter {
    /// Packets as they were on the wire: the segments of a super-packet count one by one.
    pub packets: u64,
    /// Bytes from the link-layer header on.
    pub bytes: u64,
}

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

/// Interfaces that `NET` can describe; an interface's cell is its index modulo this.
pub const INTERFACES: usize = 4096;

/// One interface's cell in `NET`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Interface {
    /// The whole interface index; 0 is an empty cell.
    pub index: u32,
    /// The LAN it belongs to, 1 to 255; 0 for a WAN.
    pub zone: u8,
    /// 1 if frames carry no link-layer header (ppp, tun, WireGuard).
    pub layer3: u8,
    /// 1 if whatever comes in by it has been judged: a program is on it, or on every port of it.
    pub judged: u8,
    /// Zero.
    pub reserved: u8,
    /// Its link-layer address, in network byte order; zero if it has none.
    pub mac: [u16; 3],
    /// Zero.
    pub padding: u16,
}

/// What follows the gateway's interfaces, addresses and routes as they change, apart from any policy.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Net {
    /// IPv4 places by the upper 16 bits; blocks are in `words`.
    pub place4: [u32; 1 << 16],
    /// IPv6 places.
    pub place6: [u32; 1 << 16],
    /// A bit per upper 16 bits of an IPv4 destination: a local or own address lies below.
    pub local4: [u32; 1 << 11],
    /// The same for IPv6.
    pub local6: [u32; 1 << 11],
    /// A bit per hash of a single IPv6 address that `PLACES6` knows: most clients' addresses are told from it without a search.
    pub hosts6: [u32; 64],
    /// Interfaces by index modulo [`INTERFACES`].
    pub interfaces: [Interface; INTERFACES],
    /// 1 if sources must belong behind the interface they came from.
    pub strict_sources: u32,
    /// 1 if replies to connections from outside may pass: an inbound rule exists.
    pub replies: u32,
    /// Seconds after its last packet for which a connection from outside is remembered, by [`Flow::state`].
    pub timeouts: [u32; flow::STATES],
    /// Zero.
    pub reserved: u32,
    /// Epoch that host cells are stamped with.
    pub epoch: u32,
    /// Verdict words by pseudo rule: the policy's word on what no rule names.
    pub pseudo: [u32; 16],
    /// Blocks of the tries.
    pub words: [u32; NET_WORDS],
}
const _: () = assert!(pseudo::COUNT <= 16);

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

/// Elements of `LOST`: events that were not told, by CPU.
pub mod lost {
    /// More than a thousand a second.
    pub const LIMITED: u32 = 0;
    /// The ring buffer was full.
    pub const FULL: u32 = 1;
    /// How many reasons there are.
    pub const REASONS: u32 = 2;
}
