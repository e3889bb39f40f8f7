//! DNS messages on their way past: which packets carry one, and what it asks.

use crate::{
    abi::Words6,
    bounded::bounded,
    bytes::Bytes,
    headers::{FragmentHeader, Ipv4, Ipv6, Udp, ethertype, protocol},
};

/// The port of resolvers.
pub const PORT: u16 = 53;

/// A packet that may have to do with DNS, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// Source, IPv4 in the last word.
    pub source: Words6,
    /// Destination, likewise.
    pub destination: Words6,
    /// Whether these are IPv4.
    pub is_v4: bool,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// What it carries.
    pub load: Load,
    /// Offset of a datagram's payload in the frame.
    pub offset: usize,
    /// Length of a datagram's payload; 0 if its header contradicts the packet's.
    pub length: usize,
    /// A segment's flags.
    pub tcp_flags: u8,
}

/// What a packet carries. What belongs to one of these is beside it, and always set: the verifier would see the compiler copy what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A whole datagram of UDP.
    Datagram,
    /// The first part of a packet.
    Fragment,
    /// A segment of TCP.
    Segment,
}

/// UDP or TCP in a packet whose network header's EtherType and offset are known. Nothing for anything else: later fragments, and what is behind
/// IPv6 options, where no honest resolver puts an answer.
#[inline(always)]
pub fn carrier(frame: &impl Bytes, kind: u16, offset: usize) -> Option<Carrier> {
    match kind {
        ethertype::IPV4 => ipv4(frame, offset),
        ethertype::IPV6 => ipv6(frame, offset),
        _ => None,
    }
}

/// A network header's part of a [`Carrier`].
struct Network {
    source: Words6,
    destination: Words6,
    is_v4: bool,
    protocol: u8,
    is_part: bool,
    /// Where the transport header begins and the packet ends.
    at: usize,
    end: usize,
}

#[inline(always)]
fn ipv4(frame: &impl Bytes, offset: usize) -> Option<Carrier> {
    let header = frame.read::<Ipv4>(offset)?;
    let length = usize::from(header.version_length & 0xf) * 4;
    let fragment = u16::from_be(header.fragment);
    if header.version_length >> 4 != 4 || length < size_of::<Ipv4>() || fragment & 0x1fff != 0 {
        return None;
    }
    transport(
        frame,
        &Network {
            source: [0, 0, 0, u32::from_be(header.source)],
            destination: [0, 0, 0, u32::from_be(header.destination)],
            is_v4: true,
            protocol: header.protocol,
            is_part: fragment & 0x2000 != 0,
            at: offset + length,
            end: offset + usize::from(u16::from_be(header.total_length)),
        },
    )
}

#[inline(always)]
fn ipv6(frame: &impl Bytes, offset: usize) -> Option<Carrier> {
    let header = frame.read::<Ipv6>(offset)?;
    if u32::from_be(header.version) >> 28 != 6 {
        return None;
    }
    let mut network = Network {
        source: header.source.map(u32::from_be),
        destination: header.destination.map(u32::from_be),
        is_v4: false,
        protocol: header.next,
        is_part: false,
        at: offset + size_of::<Ipv6>(),
        end: offset + size_of::<Ipv6>() + usize::from(u16::from_be(header.payload_length)),
    };
    if header.next == protocol::FRAGMENT {
        let part = frame.read::<FragmentHeader>(network.at)?;
        let field = u16::from_be(part.offset);
        if field & 0xfff8 != 0 {
            return None;
        }
        network.protocol = part.next;
        network.is_part = field & 1 != 0;
        network.at += size_of::<FragmentHeader>();
    }
    transport(frame, &network)
}

#[inline(always)]
fn transport(frame: &impl Bytes, network: &Network) -> Option<Carrier> {
    /// Where TCP has its flags.
    const FLAGS: usize = 13;
    let &Network { source, destination, is_v4, protocol, is_part, at, end } = network;
    // TCP begins with ports, too, and is longer.
    let header = frame.read::<Udp>(at)?;
    let (source_port, destination_port) = (u16::from_be(header.ports.source), u16::from_be(header.ports.destination));
    let whole = usize::from(u16::from_be(header.length));
    let fits = at + whole <= end && end <= frame.size();
    let (load, tcp_flags) = match protocol {
        protocol::UDP | protocol::TCP if is_part => (Load::Fragment, 0),
        protocol::UDP => (Load::Datagram, 0),
        protocol::TCP => (Load::Segment, frame.read(at + FLAGS)?),
        _ => return None,
    };
    let (offset, length) = (at + size_of::<Udp>(), if fits { whole.saturating_sub(size_of::<Udp>()) } else { 0 });
    Some(Carrier { source, destination, is_v4, source_port, destination_port, load, offset, length, tcp_flags })
}

/// So many of a message's bytes are looked at, a power of two: the header, the longest name, its type and class are 271.
pub const START: usize = 512;

/// The start of a DNS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: u16,
    /// Whether it is an answer.
    pub is_answer: bool,
    /// Whether it says that there is more by TCP.
    pub truncated: bool,
    /// Hash of its one question; case makes no difference, as resolvers need not keep it. It has no key: who asks can make two
    /// questions with one hash. What is learned is the answer's own question, which the resolver made an answer to.
    pub question: u64,
}

impl Message {
    /// Reads the start of a message of which `length` bytes are there. Nothing unless it is a plain query or the answer to one, with one question.
    #[inline(always)]
    #[must_use]
    pub fn read(bytes: &[u8; START], length: usize) -> Option<Self> {
        const HEADER: usize = 12;
        const NAME: usize = 255;
        const LABEL: usize = 63;
        // FNV-1a.
        const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        let (flags, questions) = (bytes[2], [bytes[4], bytes[5]]);
        if length < HEADER || flags & 0x78 != 0 || questions != [0, 1] {
            return None;
        }
        let mut hash = BASIS;
        let mut left_of_label = 0;
        let mut end = 0;
        for (at, &byte) in bytes.iter().enumerate().skip(HEADER).take(NAME) {
            hash = add(hash, byte.to_ascii_lowercase());
            if left_of_label > 0 {
                left_of_label = bounded::<LABEL>(left_of_label - 1);
                continue;
            }
            if byte == 0 {
                end = at + 1;
                break;
            }
            // A pointer, in a question, is a trick.
            if usize::from(byte) > LABEL {
                return None;
            }
            left_of_label = bounded::<LABEL>(byte.into());
        }
        if end == 0 || end + 4 > length {
            return None;
        }
        for at in 0..4 {
            hash = add(hash, bytes[bounded::<{ START - 1 }>(end + at)]);
        }
        let id = u16::from_be_bytes([bytes[0], bytes[1]]);
        Some(Self { id, is_answer: flags & 0x80 != 0, truncated: flags & 2 != 0, question: hash })
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::{Carrier, Load, Message, START, carrier};
    use crate::parse;

    const V4: ([u8; 4], [u8; 4]) = ([10, 1, 0, 1], [10, 1, 0, 2]);
    const V6: ([u8; 16], [u8; 16]) = ([0xfd; 16], [0xfc; 16]);

    fn seen(frame: &[u8]) -> Option<Carrier> {
        let (kind, offset) = parse::link(&frame).ok()?;
        carrier(&frame, kind, offset)
    }

    fn datagram(carrier: &Carrier) -> Option<(usize, usize)> {
        (carrier.load == Load::Datagram).then_some((carrier.offset, carrier.length))
    }

    fn udp(step: etherparse::PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8> {
        let mut frame = Vec::new();
        step.udp(53, 4000).write(&mut frame, b"message").unwrap();
        frame
    }

    /// A query in class IN.
    fn query(name: &[u8], kind: u8) -> (Box<[u8; START]>, usize) {
        let mut bytes = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        bytes.extend(name);
        bytes.extend([0, kind, 0, 1]);
        let mut start = Box::new([0xee; START]);
        start[..bytes.len()].copy_from_slice(&bytes);
        (start, bytes.len())
    }

    fn read((bytes, length): &(Box<[u8; START]>, usize)) -> Option<Message> {
        Message::read(bytes, *length)
    }

    #[test]
    fn a_datagram_is_found_behind_either_header_and_up_to_two_tags() {
        let v4 = udp(PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(V4.0, V4.1, 64));
        let found = seen(&v4).unwrap();
        assert_eq!((found.source, found.destination), ([0, 0, 0, 0x0a01_0001], [0, 0, 0, 0x0a01_0002]));
        assert_eq!((found.is_v4, found.source_port, found.destination_port), (true, 53, 4000));
        assert_eq!(datagram(&found), Some((14 + 20 + 8, 7)));
        let v6 = udp(PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6(V6.0, V6.1, 64));
        let found = seen(&v6).unwrap();
        assert_eq!((found.source, found.destination), ([0xfdfd_fdfd; 4], [0xfcfc_fcfc; 4]));
        assert_eq!((found.is_v4, datagram(&found)), (false, Some((14 + 40 + 8, 7))));
        let tag = [0x81, 0, 0, 5];
        let tagged = |count: usize| [&v4[..12], &tag.repeat(count), &v4[12..]].concat();
        assert_eq!(datagram(&seen(&tagged(2)).unwrap()), Some((14 + 8 + 20 + 8, 7)));
        assert_eq!(seen(&tagged(3)), None);
    }

    #[test]
    fn parts_segments_and_what_is_behind_options_are_no_datagrams() {
        let v4 = udp(PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(V4.0, V4.1, 64));
        let v6 = udp(PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6(V6.0, V6.1, 64));
        let changed = |at: usize, value: u8| {
            let mut frame = v4.clone();
            frame[at] = value;
            seen(&frame).map(|found| (found.load, found.length))
        };
        assert_eq!(changed(20, 0x20), Some((Load::Fragment, 7)));
        assert_eq!(changed(21, 1), None, "a later fragment");
        assert_eq!(changed(23, 1), None, "ICMP");
        assert_eq!(changed(14, 0x44), None, "a header of sixteen bytes");
        assert_eq!(changed(39, 200), Some((Load::Datagram, 0)), "longer than its packet");
        assert_eq!(changed(17, 200), Some((Load::Datagram, 0)), "longer than its frame");
        let behind = |kind: u8, header: [u8; 8]| {
            let mut frame = [&v6[..54], &header, &v6[54..]].concat();
            (frame[19], frame[20]) = (frame[19] + 8, kind);
            seen(&frame).map(|found| (found.load, found.offset))
        };
        assert_eq!(behind(44, [17, 0, 0, 1, 0, 0, 0, 9]), Some((Load::Fragment, 70)));
        assert_eq!(behind(44, [17, 0, 0, 0, 0, 0, 0, 9]), Some((Load::Datagram, 70)), "a whole one");
        assert_eq!(behind(44, [17, 0, 0, 8, 0, 0, 0, 9]), None);
        assert_eq!(behind(60, [17, 0, 1, 4, 0, 0, 0, 0]), None, "destination options");
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(V4.0, V4.1, 64).tcp(53, 4000, 1, 1);
        builder.syn().ack(1).write(&mut frame, &[]).unwrap();
        let found = seen(&frame).unwrap();
        assert_eq!((found.load, found.tcp_flags), (Load::Segment, 0x12));
    }

    #[test]
    fn a_question_is_the_same_in_any_case_and_differs_by_name_type_and_class() {
        let asked = query(b"\x03www\x05apple\x03com\x00", 1);
        let message = read(&asked).unwrap();
        assert_eq!((message.id, message.is_answer, message.truncated), (0x1234, false, false));
        assert_eq!(message.question, read(&query(b"\x03wWw\x05APPLE\x03com\x00", 1)).unwrap().question);
        let mut chaos = asked.clone();
        chaos.0[chaos.1 - 1] = 3;
        for other in [
            query(b"\x03www\x05apple\x03com\x00", 28),
            query(b"\x03www\x05apple\x03org\x00", 1),
            query(b"\x09www\x05apple\x03com\x00", 1),
            query(b"\x00", 1),
            chaos,
        ] {
            assert_ne!(message.question, read(&other).unwrap().question);
        }
        let mut answer = asked;
        answer.0[2] |= 0x82;
        assert_eq!(read(&answer), Some(Message { is_answer: true, truncated: true, ..message }));
    }

    #[test]
    fn what_asks_nothing_or_in_tricks_is_no_message() {
        let asked = query(b"\x03www\x05apple\x03com\x00", 1);
        for length in 0..asked.1 {
            assert_eq!(Message::read(&asked.0, length), None, "{length} bytes");
        }
        let changed = |at: usize, value: u8| {
            let mut bytes = asked.clone();
            bytes.0[at] = value;
            read(&bytes)
        };
        assert_eq!(changed(2, 5 << 3), None, "an update");
        assert_eq!(changed(5, 2), None, "two questions");
        assert_eq!(changed(12, 0xc0), None, "a pointer");
        let longest = [&[&[63][..], &[b'a'; 63]].concat().repeat(3)[..], &[61], &[b'a'; 61], &[0]].concat();
        assert_eq!(longest.len(), 255);
        assert!(read(&query(&longest, 1)).is_some());
        let longer = [&[&[63][..], &[b'a'; 63]].concat().repeat(3)[..], &[62], &[b'a'; 62], &[0]].concat();
        assert_eq!(read(&query(&longer, 1)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_carrier_and_a_message_or_not(
            bytes in prop::collection::vec(any::<u8>(), START), frame in prop::collection::vec(any::<u8>(), 0..120),
            length in 0..=START, kind in prop_oneof![Just(0x0800_u16), Just(0x86dd)],
        ) {
            let _ = Message::read(bytes.as_slice().try_into().unwrap(), length);
            if let Some(Carrier { offset, length, .. }) = carrier(&frame.as_slice(), kind, 0) {
                prop_assert!(length == 0 || offset + length <= frame.len());
            }
        }
    }
}
