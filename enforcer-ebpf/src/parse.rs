//! From a frame to what rules speak of. Total: every frame is a packet, a frame without IP, or malformed with a reason.

use crate::{
    abi::{STANDS, Words6, slot},
    address::Address,
    bounded::bounded,
    bytes::Bytes,
    headers::{Ethernet, Extension, FragmentHeader, Icmp, Ipv4, Ipv6, Ports, VlanTag, ethertype, protocol, tcp},
};

pub use crate::malformed::Malformed;

/// What becomes of a frame, by what it is. Each kind goes its own way from here on: were they joined in one value first, every packet would
/// pay for the largest of them.
pub trait Sink: Sized {
    /// What the frame becomes.
    type Output;
    /// An IP packet.
    fn ip<A: Address>(self, packet: &Packet<A>) -> Self::Output;
    /// Something else, by its EtherType (below 0x600: an 802.2 length).
    fn non_ip(self, kind: u16) -> Self::Output;
    /// Refused, and why.
    fn malformed(self, reason: Malformed) -> Self::Output;
}

/// An IP packet's header fields, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<A> {
    /// Source.
    pub source: A,
    /// Destination.
    pub destination: A,
    /// Upper-layer protocol (behind IPv6 extension headers).
    pub protocol: u8,
    /// Index of the port cell, see [`slot`]: `slot << 16`, and below it the destination port, ICMP type and code, or protocol number.
    pub port: u32,
    /// Source port; the identifier of an ICMP echo; else 0.
    pub source_port: u16,
    /// Destination port; the identifier of an ICMP echo; else 0.
    pub destination_port: u16,
    /// Flags of TCP; else 0.
    pub tcp_flags: u8,
    /// [`crate::abi::STANDS`] if it belongs to a connection that stands, else 0.
    pub stands: u32,
    /// Part of a fragmented packet, or [`Fragment::NONE`].
    pub fragment: Fragment,
}

/// Which part of a fragmented packet. Not in an `Option`, whose unset fields the compiler leaves unset in registers that the verifier then
/// sees copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Where its payload begins in the whole, bytes; 0 is the head.
    pub start: u32,
    /// Where it ends; 0 in a whole packet.
    pub end: u32,
}

impl Fragment {
    /// A whole packet.
    pub const NONE: Self = Self { id: 0, start: 0, end: 0 };

    /// Whether it is a part, head or later.
    #[inline(always)]
    #[must_use]
    pub const fn is_part(self) -> bool {
        self.end != 0
    }

    /// Whether it is a part other than the head: without a transport header.
    #[inline(always)]
    #[must_use]
    pub const fn is_later(self) -> bool {
        self.start != 0
    }
}

/// No header lies further out: two tags, and six extension headers of 2,048 bytes.
const OFFSET: usize = 0x3fff;
const MAX_VLAN_TAGS: usize = 2;
const MAX_EXTENSIONS: usize = 6;
/// The end of the largest packet that fragments may form.
const MAX_PACKET: u32 = 65_535;

/// Parses from the link-layer header on.
#[inline(always)]
pub fn ethernet<S: Sink>(frame: &impl Bytes, sink: S) -> S::Output {
    match link(frame) {
        Ok((kind, offset)) => network(frame, kind, offset, sink),
        Err(reason) => sink.malformed(reason),
    }
}

/// The EtherType behind Ethernet and up to two VLAN tags, and the offset of what it announces.
///
/// # Errors
/// If the frame is cut off, or there are more tags.
#[inline(always)]
pub fn link(frame: &impl Bytes) -> Result<(u16, usize), Malformed> {
    let header = frame.read::<Ethernet>(0).ok_or(Malformed::Truncated)?;
    let mut offset = size_of::<Ethernet>();
    let mut kind = u16::from_be(header.kind);
    for _ in 0..MAX_VLAN_TAGS {
        if !is_vlan(kind) {
            break;
        }
        let tag = frame.read::<VlanTag>(offset).ok_or(Malformed::Truncated)?;
        offset += size_of::<VlanTag>();
        kind = u16::from_be(tag.kind);
    }
    if is_vlan(kind) {
        return Err(Malformed::TooDeep);
    }
    Ok((kind, bounded::<OFFSET>(offset)))
}

#[inline(always)]
fn is_vlan(kind: u16) -> bool {
    kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN
}

/// Parses from the network header on, whose EtherType and byte offset the caller knows.
#[inline(always)]
pub fn network<S: Sink>(frame: &impl Bytes, kind: u16, offset: usize, sink: S) -> S::Output {
    match kind {
        ethertype::IPV4 => match ipv4(frame, offset) {
            Ok(packet) => sink.ip(&packet),
            Err(reason) => sink.malformed(reason),
        },
        ethertype::IPV6 => match ipv6(frame, offset) {
            Ok(packet) => sink.ip(&packet),
            Err(reason) => sink.malformed(reason),
        },
        other => sink.non_ip(other),
    }
}

#[inline(always)]
fn ipv4(frame: &impl Bytes, offset: usize) -> Result<Packet<u32>, Malformed> {
    let header = frame.read::<Ipv4>(offset).ok_or(Malformed::Truncated)?;
    let header_length = usize::from(header.version_length & 0xf) * 4;
    if header.version_length >> 4 != 4 || header_length < 20 {
        return Err(Malformed::Header);
    }
    let total = usize::from(u16::from_be(header.total_length));
    if total < header_length || offset + total > frame.size() {
        return Err(Malformed::Length);
    }
    if header_length > 20 {
        ipv4_options(frame, offset + 20, offset + header_length)?;
    }
    let field = u16::from_be(header.fragment);
    let part = if field & 0x3fff == 0 {
        Fragment::NONE
    } else {
        let id = u32::from(u16::from_be(header.id));
        fragment(id, u32::from(field & 0x1fff) * 8, field & 0x2000 != 0, total - header_length)?
    };
    let transport = transport(frame, offset + header_length, total - header_length, header.protocol, false, part)?;
    Ok(transport.packet(u32::from_be(header.source), u32::from_be(header.destination), header.protocol, part))
}

/// Refuses source routes and options whose lengths do not add up.
#[inline(always)]
fn ipv4_options(frame: &impl Bytes, mut at: usize, end: usize) -> Result<(), Malformed> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const LOOSE_ROUTE: u8 = 131;
    const STRICT_ROUTE: u8 = 137;
    // Forty bytes of options are forty options at most.
    for _ in 0..40 {
        at = bounded::<OFFSET>(at);
        if at >= end {
            break;
        }
        let kind = frame.read::<u8>(at).ok_or(Malformed::Truncated)?;
        let length = match kind {
            END => break,
            NOP => 1,
            LOOSE_ROUTE | STRICT_ROUTE => return Err(Malformed::SourceRoute),
            _ => {
                let length = frame.read::<u8>(at + 1).ok_or(Malformed::Truncated)?;
                if length < 2 || at + usize::from(length) > end {
                    return Err(Malformed::Length);
                }
                usize::from(length)
            }
        };
        at += length;
    }
    Ok(())
}

#[inline(always)]
fn ipv6(frame: &impl Bytes, offset: usize) -> Result<Packet<Words6>, Malformed> {
    let header = frame.read::<Ipv6>(offset).ok_or(Malformed::Truncated)?;
    if u32::from_be(header.version) >> 28 != 6 {
        return Err(Malformed::Header);
    }
    let mut at = offset + size_of::<Ipv6>();
    let end = at + usize::from(u16::from_be(header.payload_length));
    if end > frame.size() {
        return Err(Malformed::Length);
    }
    let mut next = header.next;
    let mut part = Fragment::NONE;
    for step in 0..=MAX_EXTENSIONS {
        at = bounded::<OFFSET>(at);
        let length = match next {
            protocol::HOP_BY_HOP if step > 0 => return Err(Malformed::Header),
            protocol::HOP_BY_HOP | protocol::DESTINATION => {
                let extension = frame.read::<Extension>(at).ok_or(Malformed::Truncated)?;
                next = extension.next;
                (usize::from(extension.length) + 1) * 8
            }
            protocol::ROUTING => return Err(Malformed::SourceRoute),
            protocol::FRAGMENT => {
                let header = frame.read::<FragmentHeader>(at).ok_or(Malformed::Truncated)?;
                if part.is_part() || at + 8 > end {
                    return Err(Malformed::Fragment);
                }
                next = header.next;
                let field = u16::from_be(header.offset);
                // An atomic fragment (RFC 6946) is a whole packet.
                if field & 0xfff9 != 0 {
                    let start = u32::from(field & 0xfff8);
                    part = fragment(u32::from_be(header.id), start, field & 1 != 0, end - at - 8)?;
                    if start > 0 {
                        break;
                    }
                }
                8
            }
            _ => break,
        };
        if step == MAX_EXTENSIONS {
            return Err(Malformed::TooDeep);
        }
        at += length;
        if at > end {
            return Err(Malformed::Length);
        }
    }
    let transport = transport(frame, at, end - at, next, true, part)?;
    // RFC 4861, 6.1 and 7.1: what was forwarded is not from a neighbour.
    if is_neighbour_discovery(transport.port) && header.hop_limit != 255 {
        return Err(Malformed::HopLimit);
    }
    Ok(transport.packet(header.source.map(u32::from_be), header.destination.map(u32::from_be), next, part))
}

/// Whether a port cell is that of neighbour or router discovery, or a redirect (RFC 4861).
#[inline(always)]
#[must_use]
pub const fn is_neighbour_discovery(port: u32) -> bool {
    port >> 16 == slot::ICMPV6 && matches!(port >> 8 & 0xff, 133..=137)
}

/// Whether a port cell is that of an ICMP error (RFC 1122, 3.2.2; RFC 4443, 2.1).
#[inline(always)]
#[must_use]
pub const fn is_icmp_error(port: u32) -> bool {
    let kind = port >> 8 & 0xff;
    match port >> 16 {
        slot::ICMP => matches!(kind, 3..=5 | 11 | 12),
        slot::ICMPV6 => kind < 128,
        _ => false,
    }
}

/// A part of a packet from its offset, the more-fragments flag and its payload's length, all bytes.
#[inline(always)]
fn fragment(id: u32, start: u32, more: bool, length: usize) -> Result<Fragment, Malformed> {
    let end = start + length as u32;
    if length == 0 || end > MAX_PACKET || (more && !length.is_multiple_of(8)) {
        return Err(Malformed::Fragment);
    }
    Ok(Fragment { id, start, end })
}

/// What a transport header says.
struct Transport {
    port: u32,
    source_port: u16,
    destination_port: u16,
    tcp_flags: u8,
    stands: u32,
}

impl Transport {
    #[inline(always)]
    fn packet<A>(self, source: A, destination: A, protocol: u8, fragment: Fragment) -> Packet<A> {
        let Self { port, source_port, destination_port, tcp_flags, stands } = self;
        Packet { source, destination, protocol, port, source_port, destination_port, tcp_flags, stands, fragment }
    }
}

/// Reads a transport header; with its payload it is `length` bytes long. Later fragments have none, and are portless.
#[inline(always)]
fn transport(
    frame: &impl Bytes,
    at: usize,
    length: usize,
    protocol: u8,
    v6: bool,
    part: Fragment,
) -> Result<Transport, Malformed> {
    let portless =
        Transport { port: u32::from(protocol), source_port: 0, destination_port: 0, tcp_flags: 0, stands: 0 };
    if part.is_later() {
        return Ok(portless);
    }
    let (slot, header_length) = match (protocol, v6) {
        (protocol::TCP, _) => (slot::TCP, 20),
        (protocol::UDP, _) => (slot::UDP, 8),
        (protocol::SCTP, _) => (slot::SCTP, 12),
        (protocol::UDPLITE, _) => (slot::UDPLITE, 8),
        (protocol::ICMP, false) => (slot::ICMP, 8),
        (protocol::ICMPV6, true) => (slot::ICMPV6, 8),
        _ => return Ok(portless),
    };
    if length < header_length {
        return Err(if part.is_part() { Malformed::Fragment } else { Malformed::Truncated });
    }
    // All transports go on as one, for the verifier.
    let slot = bounded::<7>(slot as usize) as u32;
    let at = bounded::<OFFSET>(at);
    if slot == slot::ICMP || slot == slot::ICMPV6 {
        let header = frame.read::<Icmp>(at).ok_or(Malformed::Truncated)?;
        let echo = if v6 { matches!(header.kind, 128 | 129) } else { matches!(header.kind, 0 | 8) };
        let id = if echo { u16::from_be(header.id) } else { 0 };
        let port = slot << 16 | u32::from(header.kind) << 8 | u32::from(header.code);
        return Ok(Transport { port, source_port: id, destination_port: id, tcp_flags: 0, stands: 0 });
    }
    let ports = frame.read::<Ports>(at).ok_or(Malformed::Truncated)?;
    let destination_port = u16::from_be(ports.destination);
    let (mut tcp_flags, mut stands) = (0, 0);
    if slot == slot::TCP {
        let [offset, flags] = frame.read::<[u8; 2]>(at + 12).ok_or(Malformed::Truncated)?;
        tcp_flags = flags;
        stands = tcp_stands(flags);
        let data = usize::from(offset >> 4) * 4;
        if data < 20 || data > length {
            return Err(Malformed::Length);
        }
    } else if slot == slot::UDP {
        let claimed = usize::from(u16::from_be(frame.read(at + 4).ok_or(Malformed::Truncated)?));
        if claimed < 8 || (!part.is_part() && claimed > length) {
            return Err(Malformed::Length);
        }
        if claimed > 8 && length > 8 {
            stands = quic_stands(destination_port, frame.read(at + 8).ok_or(Malformed::Truncated)?);
        }
    } else if slot == slot::UDPLITE {
        // How far the checksum reaches (RFC 3828, 3.1): 0 is all of it.
        let covered = usize::from(u16::from_be(frame.read(at + 4).ok_or(Malformed::Truncated)?));
        if (1..8).contains(&covered) || (!part.is_part() && covered > length) {
            return Err(Malformed::Length);
        }
    }
    let port = slot << 16 | u32::from(destination_port);
    Ok(Transport { port, source_port: u16::from_be(ports.source), destination_port, tcp_flags, stands })
}

/// [`STANDS`] for TCP packets that open nothing.
#[inline(always)]
pub const fn tcp_stands(flags: u8) -> u32 {
    const { assert!(STANDS.is_multiple_of(tcp::SYN as u32) && tcp::SYN.is_power_of_two()) };
    // Not by a branch.
    (!flags & tcp::SYN) as u32 * (STANDS / tcp::SYN as u32)
}

/// [`STANDS`] for packets to QUIC's port whose first byte begins a short header: the form bit is off, the fixed bit on (RFC 9000, 17.3).
#[inline(always)]
pub const fn quic_stands(destination_port: u16, first: u8) -> u32 {
    if destination_port == 443 && first & 0xc0 == 0x40 { STANDS } else { 0 }
}

/// IP version and source of what begins at the network header, IPv4 in the last word. Nothing else of it is looked at.
#[inline(always)]
pub fn source(frame: &impl Bytes, kind: u16, offset: usize) -> Option<(u8, Words6)> {
    match kind {
        ethertype::IPV4 => Some((4, [0, 0, 0, u32::from_be(frame.read::<Ipv4>(offset)?.source)])),
        ethertype::IPV6 => Some((6, frame.read::<Ipv6>(offset)?.source.map(u32::from_be))),
        _ => None,
    }
}

/// Whether the bytes at the network header are of a packet whose transport header follows right behind it: IPv4 without options, or IPv6 with TCP,
/// UDP or ICMPv6 next.
#[inline(always)]
pub fn is_plain(frame: &impl Bytes, network: usize) -> bool {
    let Some(first) = frame.read::<u8>(network) else { return false };
    if first >> 4 != 6 {
        return first == 0x45;
    }
    let Some(next) = frame.read::<u8>(network + 6) else { return false };
    matches!(next, protocol::TCP | protocol::UDP | protocol::ICMPV6)
}
