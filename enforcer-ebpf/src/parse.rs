//! From a frame to what rules speak of. Total: every frame is a packet, a frame without IP, or malformed with a reason.

use crate::{
    abi::{Words6, slot},
    bounded::bounded,
    bytes::Bytes,
    headers::{Ethernet, Extension, FragmentHeader, Icmp, Ipv4, Ipv6, Ports, VlanTag, ethertype, protocol},
};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IP packet.
    Ip(Packet),
    /// Something else, by its EtherType (below 0x600: an 802.2 length).
    NonIp(u16),
    /// Refused, and why.
    Malformed(Malformed),
}

/// An IP packet's header fields, addresses and ports in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// IPv6, not IPv4.
    pub v6: bool,
    /// Source; IPv4 in the last word, the others zero.
    pub source: Words6,
    /// Destination.
    pub destination: Words6,
    /// Upper-layer protocol (behind IPv6 extension headers).
    pub protocol: u8,
    /// Port slot, see [`slot`].
    pub slot: u32,
    /// Selects the port cell in the slot: destination port, ICMP type and code, or protocol number.
    pub selector: u16,
    /// Source port; the identifier of an ICMP echo; else 0.
    pub source_port: u16,
    /// Destination port; the identifier of an ICMP echo; else 0.
    pub destination_port: u16,
    /// Part of a fragmented packet.
    pub fragment: Option<Fragment>,
}

/// Which part of a fragmented packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Where its payload begins in the whole, bytes; 0 is the head.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
}

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Malformed {
    /// A header is cut off by the end of the frame or of its packet.
    Truncated,
    /// A length field contradicts the frame or another one.
    Length,
    /// A version or header length that cannot be.
    Header,
    /// More than two VLAN tags or six IPv6 extension headers.
    TooDeep,
    /// An IPv4 source route or an IPv6 routing header: the sender would choose the way.
    SourceRoute,
    /// A fragment too small, too far out or with a gap.
    Fragment,
    /// Neighbour discovery from beyond the link (hop limit below 255).
    HopLimit,
}

/// No header lies further out: two tags, and six extension headers of 2,048 bytes.
const OFFSET: u32 = 0x3fff;
const MAX_VLAN_TAGS: usize = 2;
const MAX_EXTENSIONS: usize = 6;
/// The end of the largest packet that fragments may form.
const MAX_PACKET: u32 = 65_535;

/// Parses from the link-layer header on.
#[inline(always)]
pub fn ethernet(frame: &impl Bytes) -> Parsed {
    let Some(header) = frame.read::<Ethernet>(0) else { return Parsed::Malformed(Malformed::Truncated) };
    let mut offset = size_of::<Ethernet>() as u32;
    let mut kind = u16::from_be(header.kind);
    for _ in 0..MAX_VLAN_TAGS {
        if !is_vlan(kind) {
            break;
        }
        let Some(tag) = frame.read::<VlanTag>(offset) else { return Parsed::Malformed(Malformed::Truncated) };
        offset += size_of::<VlanTag>() as u32;
        kind = u16::from_be(tag.kind);
    }
    if is_vlan(kind) {
        return Parsed::Malformed(Malformed::TooDeep);
    }
    network(frame, kind, offset)
}

#[inline(always)]
fn is_vlan(kind: u16) -> bool {
    kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN
}

/// Parses from the network header on, whose EtherType and byte offset the caller knows.
#[inline(always)]
pub fn network(frame: &impl Bytes, kind: u16, offset: u32) -> Parsed {
    let packet = match kind {
        ethertype::IPV4 => ipv4(frame, offset),
        ethertype::IPV6 => ipv6(frame, offset),
        other => return Parsed::NonIp(other),
    };
    match packet {
        Ok(packet) => Parsed::Ip(packet),
        Err(reason) => Parsed::Malformed(reason),
    }
}

#[inline(always)]
fn ipv4(frame: &impl Bytes, offset: u32) -> Result<Packet, Malformed> {
    let header = frame.read::<Ipv4>(offset).ok_or(Malformed::Truncated)?;
    let header_length = u32::from(header.version_length & 0xf) * 4;
    if header.version_length >> 4 != 4 || header_length < 20 {
        return Err(Malformed::Header);
    }
    let total = u32::from(u16::from_be(header.total_length));
    if total < header_length || offset + total > frame.size() {
        return Err(Malformed::Length);
    }
    if header_length > 20 {
        ipv4_options(frame, offset + 20, offset + header_length)?;
    }
    let mut packet = Packet {
        v6: false,
        source: [0, 0, 0, u32::from_be(header.source)],
        destination: [0, 0, 0, u32::from_be(header.destination)],
        protocol: header.protocol,
        slot: slot::PORTLESS,
        selector: u16::from(header.protocol),
        source_port: 0,
        destination_port: 0,
        fragment: None,
    };
    let field = u16::from_be(header.fragment);
    if field & 0x3fff != 0 {
        let id = u32::from(u16::from_be(header.id));
        packet.fragment =
            Some(fragment(id, u32::from(field & 0x1fff) * 8, field & 0x2000 != 0, total - header_length)?);
    }
    transport(frame, offset + header_length, total - header_length, &mut packet)?;
    Ok(packet)
}

/// Refuses source routes and options whose lengths do not add up.
#[inline(always)]
fn ipv4_options(frame: &impl Bytes, mut at: u32, end: u32) -> Result<(), Malformed> {
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
                if length < 2 || at + u32::from(length) > end {
                    return Err(Malformed::Length);
                }
                u32::from(length)
            }
        };
        at += length;
    }
    Ok(())
}

#[inline(always)]
fn ipv6(frame: &impl Bytes, offset: u32) -> Result<Packet, Malformed> {
    let header = frame.read::<Ipv6>(offset).ok_or(Malformed::Truncated)?;
    if u32::from_be(header.version) >> 28 != 6 {
        return Err(Malformed::Header);
    }
    let mut at = offset + size_of::<Ipv6>() as u32;
    let end = at + u32::from(u16::from_be(header.payload_length));
    if end > frame.size() {
        return Err(Malformed::Length);
    }
    let mut packet = Packet {
        v6: true,
        source: header.source.map(u32::from_be),
        destination: header.destination.map(u32::from_be),
        protocol: header.next,
        slot: slot::PORTLESS,
        selector: 0,
        source_port: 0,
        destination_port: 0,
        fragment: None,
    };
    for step in 0..=MAX_EXTENSIONS {
        at = bounded::<OFFSET>(at);
        let length = match packet.protocol {
            protocol::HOP_BY_HOP if step > 0 => return Err(Malformed::Header),
            protocol::HOP_BY_HOP | protocol::DESTINATION => {
                let extension = frame.read::<Extension>(at).ok_or(Malformed::Truncated)?;
                packet.protocol = extension.next;
                (u32::from(extension.length) + 1) * 8
            }
            protocol::ROUTING => return Err(Malformed::SourceRoute),
            protocol::FRAGMENT => {
                let part = frame.read::<FragmentHeader>(at).ok_or(Malformed::Truncated)?;
                if packet.fragment.is_some() || at + 8 > end {
                    return Err(Malformed::Fragment);
                }
                packet.protocol = part.next;
                let field = u16::from_be(part.offset);
                // An atomic fragment (RFC 6946) is a whole packet.
                if field & 0xfff9 != 0 {
                    let start = u32::from(field & 0xfff8);
                    packet.fragment = Some(fragment(u32::from_be(part.id), start, field & 1 != 0, end - at - 8)?);
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
    packet.selector = u16::from(packet.protocol);
    transport(frame, at, end - at, &mut packet)?;
    // RFC 4861, 6.1 and 7.1: what was forwarded is not from a neighbour.
    if packet.slot == slot::ICMPV6 && matches!(packet.selector >> 8, 133..=137) && header.hop_limit != 255 {
        return Err(Malformed::HopLimit);
    }
    Ok(packet)
}

/// A part of a packet from its offset, the more-fragments flag and its payload's length, all bytes.
#[inline(always)]
fn fragment(id: u32, start: u32, more: bool, length: u32) -> Result<Fragment, Malformed> {
    let end = start + length;
    if length == 0 || end > MAX_PACKET || (more && !length.is_multiple_of(8)) {
        return Err(Malformed::Fragment);
    }
    Ok(Fragment { id, start, end })
}

/// Fills in ports from a transport header `length` bytes long with its payload. Later fragments have none.
#[inline(always)]
fn transport(frame: &impl Bytes, at: u32, length: u32, packet: &mut Packet) -> Result<(), Malformed> {
    if packet.fragment.is_some_and(|part| part.start > 0) {
        return Ok(());
    }
    let (slot, header_length) = match (packet.protocol, packet.v6) {
        (protocol::TCP, _) => (slot::TCP, 20),
        (protocol::UDP, _) => (slot::UDP, 8),
        (protocol::SCTP, _) => (slot::SCTP, 12),
        (protocol::ICMP, false) => (slot::ICMP, 8),
        (protocol::ICMPV6, true) => (slot::ICMPV6, 8),
        _ => return Ok(()),
    };
    if length < header_length {
        return Err(if packet.fragment.is_some() { Malformed::Fragment } else { Malformed::Truncated });
    }
    packet.slot = bounded::<7>(slot);
    let at = bounded::<OFFSET>(at);
    if slot == slot::ICMP || slot == slot::ICMPV6 {
        let header = frame.read::<Icmp>(at).ok_or(Malformed::Truncated)?;
        packet.selector = u16::from(header.kind) << 8 | u16::from(header.code);
        let echo = if slot == slot::ICMP { matches!(header.kind, 0 | 8) } else { matches!(header.kind, 128 | 129) };
        if echo {
            packet.source_port = u16::from_be(header.id);
            packet.destination_port = packet.source_port;
        }
        return Ok(());
    }
    let ports = frame.read::<Ports>(at).ok_or(Malformed::Truncated)?;
    packet.source_port = u16::from_be(ports.source);
    packet.destination_port = u16::from_be(ports.destination);
    packet.selector = packet.destination_port;
    match slot {
        slot::TCP => {
            let data = u32::from(frame.read::<u8>(at + 12).ok_or(Malformed::Truncated)? >> 4) * 4;
            if data < 20 || data > length {
                return Err(Malformed::Length);
            }
        }
        slot::UDP => {
            let claimed = u32::from(u16::from_be(frame.read(at + 4).ok_or(Malformed::Truncated)?));
            if claimed < 8 || (packet.fragment.is_none() && claimed > length) {
                return Err(Malformed::Length);
            }
        }
        _ => {}
    }
    Ok(())
}
