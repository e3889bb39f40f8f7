//! What a refused sender is told at once: a TCP reset (RFC 9293, 3.10.7.1), or ICMP "administratively prohibited" (RFC 1812, 5.2.7.1; RFC 4443, 3.1).
//!
//! An answer takes the place of the packet it answers, from the network header on. It comes in the name of the destination: a client believes it as it
//! would a reset of the server's, and the gateway's address on that LAN need not be known here.

use crate::{
    bytes::Bytes,
    headers::{
        Icmp, Ipv4, Ipv6, Ports, protocol,
        tcp::{ACK, FIN, RST, SYN},
    },
};

/// The largest answer: IPv6, ICMPv6, and the 48 bytes quoted.
pub const MOST: usize = 96;

/// An answer's bytes from the network header on; aligned as its words are, and zero before it is written.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Answer(pub [u8; MOST]);

/// Sequence numbers and flags of a TCP header, behind its ports.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Sequence {
    sequence: u32,
    acknowledged: u32,
    /// Header length, flags.
    offset_flags: [u8; 2],
    window: u16,
}

/// Answers an IPv4 packet whose header begins at an offset, and gives the answer's length; nothing for what must not be answered: fragments, errors,
/// resets, groups.
#[inline(always)]
pub fn ipv4(frame: &impl Bytes, offset: usize, Answer(bytes): &mut Answer) -> Option<usize> {
    let header = frame.read::<Ipv4>(offset)?;
    let header_length = usize::from(header.version_length & 0xf) * 4;
    let (source, destination) = (u32::from_be(header.source), u32::from_be(header.destination));
    let total = usize::from(u16::from_be(header.total_length));
    if header.fragment & 0x3fff_u16.to_be() != 0
        || header_length < 20
        || total < header_length
        || is_group4(source)
        || is_group4(destination)
    {
        return None;
    }
    let mut answered = 40;
    let transport = offset + header_length;
    if header.protocol == protocol::TCP {
        reset(frame, transport, total - header_length, bytes, 20)?;
        let mut sum = sum(&bytes[20..40]) + u32::from(protocol::TCP) + 20;
        sum += halves(source) + halves(destination);
        put16(bytes, 20 + 16, fold(sum));
    } else {
        if header.protocol == protocol::ICMP && frame.read::<Icmp>(transport)?.kind != 8 {
            return None;
        }
        // The header and 8 bytes are quoted; with options it would not be the transport's 8.
        if header_length != 20 {
            return None;
        }
        let quoted = frame.read::<[u32; 7]>(offset)?;
        answered = 56;
        bytes[28..56].copy_from_slice(bytemuck::bytes_of(&quoted));
        // Destination unreachable, communication administratively prohibited.
        bytes[20..22].copy_from_slice(&[3, 13]);
        let sum = sum(&bytes[20..56]);
        put16(bytes, 22, fold(sum));
    }
    bytes[0] = 0x45;
    put16(bytes, 2, answered as u16);
    // Not to be fragmented, 64 hops.
    bytes[6] = 0x40;
    bytes[8] = 64;
    bytes[9] = if header.protocol == protocol::TCP { protocol::TCP } else { protocol::ICMP };
    bytes[12..16].copy_from_slice(&destination.to_be_bytes());
    bytes[16..20].copy_from_slice(&source.to_be_bytes());
    let sum = sum(&bytes[..20]);
    put16(bytes, 10, fold(sum));
    Some(answered)
}

/// Answers an IPv6 packet, if its transport header follows right behind its own.
#[inline(always)]
pub fn ipv6(frame: &impl Bytes, offset: usize, Answer(bytes): &mut Answer) -> Option<usize> {
    let header = frame.read::<Ipv6>(offset)?;
    let (source, destination) = (header.source.map(u32::from_be), header.destination.map(u32::from_be));
    // Multicast, unspecified or loopback.
    let is_group =
        |[first, second, third, last]: [u32; 4]| first >> 24 == 0xff || (first | second | third == 0 && last <= 1);
    if is_group(source) || is_group(destination) {
        return None;
    }
    let transport = offset + size_of::<Ipv6>();
    let mut answered = 60;
    let next = match header.next {
        protocol::TCP => protocol::TCP,
        protocol::ICMPV6 if frame.read::<Icmp>(transport)?.kind != 128 => return None,
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::FRAGMENT | protocol::DESTINATION => return None,
        _ => protocol::ICMPV6,
    };
    if next == protocol::TCP {
        reset(frame, transport, usize::from(u16::from_be(header.payload_length)), bytes, 40)?;
    } else {
        let quoted = frame.read::<[u32; 12]>(offset)?;
        answered = MOST;
        bytes[48..].copy_from_slice(bytemuck::bytes_of(&quoted));
        // Destination unreachable, communication administratively prohibited.
        bytes[40..42].copy_from_slice(&[1, 1]);
    }
    let payload = answered - 40;
    let mut sum = sum(&bytes[40..]) + u32::from(next) + payload as u32;
    // Not one behind the other: kernels before 6.8 take such a loop for one without an end.
    for (source, destination) in source.into_iter().zip(destination) {
        sum += halves(source) + halves(destination);
    }
    put16(bytes, if next == protocol::TCP { 40 + 16 } else { 42 }, fold(sum));
    bytes[0] = 0x60;
    put16(bytes, 4, payload as u16);
    (bytes[6], bytes[7]) = (next, 64);
    bytes[8..24].copy_from_slice(bytemuck::bytes_of(&header.destination));
    bytes[24..40].copy_from_slice(bytemuck::bytes_of(&header.source));
    Some(answered)
}

/// Unspecified, loopback, multicast or broadcast.
const fn is_group4(address: u32) -> bool {
    matches!(address >> 24, 0 | 127) || address >> 28 >= 0xe
}

/// Writes the reset of a segment, `length` bytes long with its header, without its checksum. None for a reset.
#[inline(always)]
fn reset(frame: &impl Bytes, at: usize, length: usize, bytes: &mut [u8; MOST], to: usize) -> Option<()> {
    let ports = frame.read::<Ports>(at)?;
    let segment = frame.read::<Sequence>(at + 4)?;
    let flags = segment.offset_flags[1];
    if flags & RST != 0 {
        return None;
    }
    bytes[to..to + 2].copy_from_slice(&ports.destination.to_ne_bytes());
    bytes[to + 2..to + 4].copy_from_slice(&ports.source.to_ne_bytes());
    bytes[to + 12] = 5 << 4;
    if flags & ACK != 0 {
        bytes[to + 4..to + 8].copy_from_slice(&segment.acknowledged.to_ne_bytes());
        bytes[to + 13] = RST;
    } else {
        let header = usize::from(segment.offset_flags[0] >> 4) * 4;
        let occupied =
            (length as u32).wrapping_sub(header as u32) + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let acknowledged = u32::from_be(segment.sequence).wrapping_add(occupied);
        bytes[to + 8..to + 12].copy_from_slice(&acknowledged.to_be_bytes());
        bytes[to + 13] = RST | ACK;
    }
    Some(())
}

/// Sum of 16-bit words, each in network byte order; the length is even. Read back from memory: remembering all that was just written would take more
/// stack than a program has.
#[inline(always)]
fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    for pair in bytes.chunks_exact(2) {
        // SAFETY: references are valid for reads.
        let (high, low) = unsafe { (core::ptr::read_volatile(&pair[0]), core::ptr::read_volatile(&pair[1])) };
        sum += u32::from(high) << 8 | u32::from(low);
    }
    sum
}

/// An address word's part of a pseudo header's sum.
const fn halves(word: u32) -> u32 {
    (word >> 16) + (word & 0xffff)
}

/// The Internet checksum of a sum (RFC 1071).
const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    !((sum >> 16) + sum) as u16
}

#[inline(always)]
fn put16(bytes: &mut [u8; MOST], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice, checksum::Sum16BitWords};

    use super::*;

    /// The answer to an IP packet, both headers' checksums checked by another implementation.
    fn answer(packet: &[u8]) -> Option<Vec<u8>> {
        let mut answer = Answer([0; MOST]);
        let length = if packet[0] >> 4 == 4 { ipv4(&packet, 0, &mut answer) } else { ipv6(&packet, 0, &mut answer) }?;
        let bytes = answer.0[..length].to_vec();
        let sliced = SlicedPacket::from_ip(&bytes).expect("a packet");
        match (sliced.net.expect("IP"), sliced.transport.expect("a transport")) {
            (NetSlice::Ipv4(net), TransportSlice::Tcp(tcp)) => {
                let header = net.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv4(header.source, header.destination).expect("short"));
            }
            (NetSlice::Ipv6(net), TransportSlice::Tcp(tcp)) => {
                let header = net.header().to_header();
                assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv6(header.source, header.destination).expect("short"));
            }
            (NetSlice::Ipv4(net), TransportSlice::Icmpv4(_)) => {
                let header = net.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let zero = Sum16BitWords::new().add_slice(&bytes[20..]).ones_complement();
                assert_eq!(zero, 0);
            }
            (NetSlice::Ipv6(net), TransportSlice::Icmpv6(icmp)) => {
                let header = net.header().to_header();
                assert!(icmp.is_checksum_valid(header.source, header.destination));
            }
            other => panic!("{other:?}"),
        }
        Some(bytes.clone())
    }

    fn tcp4(change: impl FnOnce(&mut etherparse::TcpHeader)) -> Vec<u8> {
        let mut header = etherparse::TcpHeader::new(50_000, 80, 0xffff_fffe, 1000);
        change(&mut header);
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 1, 0, 2], [17, 1, 2, 3], 64)
            .tcp_header(header)
            .write(&mut packet, b"hello")
            .expect("to memory");
        packet
    }

    fn tcp_of(answer: &[u8]) -> etherparse::TcpHeader {
        match SlicedPacket::from_ip(answer).expect("a packet").transport {
            Some(TransportSlice::Tcp(tcp)) => tcp.to_header(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_segment_without_acknowledgement_is_acknowledged_with_all_that_it_occupies() {
        let reset = tcp_of(&answer(&tcp4(|tcp| tcp.syn = true)).expect("an answer"));
        // Five bytes and the SYN, across zero.
        assert_eq!((reset.rst, reset.ack, reset.sequence_number, reset.acknowledgment_number), (true, true, 0, 4));
        assert_eq!((reset.source_port, reset.destination_port), (80, 50_000));
    }

    #[test]
    fn a_segment_with_acknowledgement_is_reset_where_its_sender_expects_it() {
        let packet = tcp4(|tcp| (tcp.ack, tcp.acknowledgment_number, tcp.fin) = (true, 0x1234_5678, true));
        let reset = tcp_of(&answer(&packet).expect("an answer"));
        assert_eq!((reset.rst, reset.ack, reset.sequence_number), (true, false, 0x1234_5678));
    }

    #[test]
    fn the_rest_is_quoted_as_prohibited() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 1, 0, 2], [17, 1, 2, 3], 64)
            .udp(5, 6)
            .write(&mut packet, b"hello")
            .expect("to memory");
        let told = answer(&packet).expect("an answer");
        assert_eq!((&told[20..22], &told[28..56], told.len()), (&[3, 13][..], &packet[..28], 56));
        let mut packet = Vec::new();
        let (from, to) = ([0xfd; 16], [0x26; 16]);
        PacketBuilder::ipv6(from, to, 64).udp(5, 6).write(&mut packet, b"hello").expect("to memory");
        let told = answer(&packet).expect("an answer");
        assert_eq!((&told[40..42], &told[48..], told.len()), (&[1, 1][..], &packet[..48], 96));
        let mut packet = Vec::new();
        PacketBuilder::ipv6(from, to, 64).tcp(5, 6, 7, 8).syn().write(&mut packet, &[]).expect("to memory");
        assert_eq!(tcp_of(&answer(&packet).expect("an answer")).acknowledgment_number, 8);
    }

    #[test]
    fn resets_errors_fragments_and_groups_are_not_answered() {
        assert_eq!(answer(&tcp4(|tcp| tcp.rst = true)), None);
        let mut fragment = tcp4(|_| {});
        fragment[6] = 0x20;
        assert_eq!(answer(&fragment), None);
        let client = [10, 1, 0, 2];
        for (from, to) in [
            ([0; 4], [17, 1, 2, 3]),
            (client, [0, 1, 2, 3]),
            (client, [224, 0, 0, 1]),
            (client, [240, 0, 0, 1]),
            (client, [127, 0, 0, 1]),
            ([127, 0, 0, 1], [17, 1, 2, 3]),
        ] {
            let mut packet = Vec::new();
            PacketBuilder::ipv4(from, to, 64).udp(5, 6).write(&mut packet, b"hello").expect("to memory");
            assert_eq!(answer(&packet), None);
        }
        let mut packet = Vec::new();
        let unreachable = etherparse::Icmpv4Type::Unknown { type_u8: 3, code_u8: 1, bytes5to8: [0; 4] };
        PacketBuilder::ipv4([10, 1, 0, 2], [17, 1, 2, 3], 64)
            .icmpv4(unreachable)
            .write(&mut packet, &[0; 28])
            .expect("to memory");
        assert_eq!(answer(&packet), None);
        let low = |last: u8| u128::from(last).to_be_bytes();
        for (from, to) in [([0xfd; 16], [0xff; 16]), ([0xfd; 16], low(0)), ([0xfd; 16], low(1)), (low(1), [0x26; 16])] {
            let mut packet = Vec::new();
            PacketBuilder::ipv6(from, to, 64).udp(5, 6).write(&mut packet, b"hello").expect("to memory");
            assert_eq!(answer(&packet), None, "{from:x?} to {to:x?}");
        }
    }
}
