//! The parser's bounds, exhaustively: frames of each shape, cut off at every length, with every value of each byte that says how long something is
//! or what comes next.

use std::cell::Cell;

use bytemuck::Pod;
use enforcer_ebpf::{
    abi::{Words6, slot},
    address::Address,
    bytes::Bytes,
    parse::{self, Malformed, Packet, Sink},
};
use etherparse::{SlicedPacket, TransportSlice};

/// A frame that knows how far it was read.
struct Watched<'a> {
    bytes: &'a [u8],
    furthest: Cell<usize>,
}

impl Bytes for Watched<'_> {
    fn size(&self) -> usize {
        self.bytes.len()
    }

    fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        let value = self.bytes.read(offset)?;
        self.furthest.set(self.furthest.get().max(offset + size_of::<T>()));
        Some(value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    Ip(Packet<Words6>),
    NonIp(u16),
    Malformed(Malformed),
}

struct Finder;

impl Sink for Finder {
    type Output = Found;

    fn ip<A: Address>(self, packet: &Packet<A>) -> Found {
        let Packet { source, destination, protocol, port, source_port, destination_port, tcp_flags, stands, fragment } =
            *packet;
        let (source, destination) = (source.words(), destination.words());
        Found::Ip(Packet {
            source,
            destination,
            protocol,
            port,
            source_port,
            destination_port,
            tcp_flags,
            stands,
            fragment,
        })
    }

    fn non_ip(self, kind: u16) -> Found {
        Found::NonIp(kind)
    }

    fn malformed(self, reason: Malformed) -> Found {
        Found::Malformed(reason)
    }
}

/// What is found, and how far was read for it.
fn find(bytes: &[u8]) -> (Found, usize) {
    let frame = Watched { bytes, furthest: Cell::new(0) };
    (parse::ethernet(&frame, Finder), frame.furthest.get())
}

/// A frame, its name, and the bytes in it that steer the parser.
struct Shape {
    name: String,
    frame: Vec<u8>,
    steering: Vec<usize>,
    /// Why it is refused, if it is.
    refused: Option<Malformed>,
}

const TCP: [u8; 24] = [1, 2, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 2, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1];
const UDP: [u8; 12] = [3, 4, 0, 53, 0, 12, 0, 0, 9, 9, 9, 9];
const UDPLITE: [u8; 12] = [3, 4, 0, 53, 0, 8, 0, 0, 9, 9, 9, 9];
const SCTP: [u8; 16] = [3, 4, 0, 53, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4];
const ECHO: [u8; 12] = [8, 0, 0, 0, 0, 7, 0, 1, 9, 9, 9, 9];
const SOLICITATION: [u8; 24] = [135, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// Transports: protocol, bytes, which of them are lengths.
const TRANSPORTS: [(u8, &[u8], &[usize]); 7] = [
    (6, &TCP, &[12]),
    (17, &UDP, &[4, 5]),
    (136, &UDPLITE, &[4, 5]),
    (132, &SCTP, &[]),
    (1, &ECHO, &[0]),
    (58, &SOLICITATION, &[0]),
    (47, &[0, 0, 8, 0], &[]),
];
/// Headers behind IPv6's: number, bytes but for the next header. Their second byte is a length, or reserved.
type Extension = (u8, [u8; 7]);
const OPTIONS: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];
const CHAINS: [&[Extension]; 7] = [
    &[],
    &[(0, OPTIONS)],
    &[(60, OPTIONS), (60, OPTIONS)],
    &[(0, OPTIONS), (44, [0, 0, 0, 0, 0, 0, 7])],
    &[(44, [0, 0, 1, 0, 0, 0, 7])],
    &[(60, OPTIONS), (44, [0, 0, 16, 0, 0, 0, 7])],
    &[(0, OPTIONS), (60, OPTIONS), (60, OPTIONS), (60, OPTIONS), (60, OPTIONS), (60, OPTIONS)],
];
const IPV4_OPTIONS: [&[u8]; 4] = [&[], &[148, 4, 0, 0], &[1, 131, 7, 4, 17, 1, 2, 3], &[7, 7, 4, 0, 0, 0, 0, 0]];

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for tags in [&[][..], &[0x81, 0, 0, 5], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
        let mut add = |name, kind: [u8; 2], packet: Vec<u8>, steering: Vec<usize>, refused| {
            let offset = 14 + tags.len();
            let frame = [&[2; 12][..], tags, &kind, &packet].concat();
            let kinds = (12..offset).step_by(4).flat_map(|at| [at, at + 1]);
            let steering = kinds.chain(steering.into_iter().map(|at| at + offset)).collect();
            shapes.push(Shape { name, frame, steering, refused });
        };
        for (protocol, transport, lengths) in TRANSPORTS {
            // With more to come, a part's length is a multiple of eight.
            let part = |more| (more && transport.len() % 8 != 0).then_some(Malformed::Fragment);
            // Whole, head and later part.
            for (options, field) in
                IPV4_OPTIONS.iter().flat_map(|options| [0, 0x20, 0x02].map(|field| (options, field)))
            {
                let header = 20 + options.len();
                let mut packet = vec![0; 20];
                packet[0] = 0x40 | (header / 4) as u8;
                packet[3] = (header + transport.len()) as u8;
                packet[6..10].copy_from_slice(&[field, 0, 64, protocol]);
                packet[12..20].copy_from_slice(&[10, 1, 0, 2, 17, 1, 2, 3]);
                let fields = [0, 2, 3, 6, 7, 9].into_iter().chain(20..header);
                let steering = fields.chain(lengths.iter().map(|at| at + header)).collect();
                let packet = [&packet, *options, transport].concat();
                let refused = if options.contains(&131) { Some(Malformed::SourceRoute) } else { part(field == 0x20) };
                let name = format!("IPv4, options {options:?}, fragment {field:#x}, protocol {protocol}");
                add(name, [8, 0], packet, steering, refused);
            }
            for chain in CHAINS {
                let mut packet = vec![0x60, 0, 0, 0, 0, (chain.len() * 8 + transport.len()) as u8];
                packet.push(chain.first().map_or(protocol, |(number, _)| *number));
                packet.push(255);
                packet.extend([0xfd; 16].into_iter().chain([0x26; 16]));
                for (index, (_, body)) in chain.iter().enumerate() {
                    packet.push(chain.get(index + 1).map_or(protocol, |(number, _)| *number));
                    packet.extend(body);
                }
                let end = packet.len();
                let extensions = (40..end).step_by(8).flat_map(|at| [at, at + 1, at + 2, at + 3]);
                let fields = [0, 4, 5, 6, 7].into_iter().chain(extensions);
                let steering = fields.chain(lengths.iter().map(|at| at + end)).collect();
                packet.extend(transport);
                let more = chain.iter().any(|(number, body)| *number == 44 && body[2] == 1);
                add(format!("IPv6, {chain:?}, protocol {protocol}"), [0x86, 0xdd], packet, steering, part(more));
            }
        }
    }
    shapes
}

/// Source and destination port as another parser finds them.
fn ports(frame: &[u8]) -> Option<(u16, u16)> {
    match SlicedPacket::from_ethernet(frame).ok()?.transport? {
        TransportSlice::Tcp(tcp) => Some((tcp.source_port(), tcp.destination_port())),
        TransportSlice::Udp(udp) => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    }
}

#[test]
fn whole_frames_of_every_shape_are_what_they_are_made_to_be() {
    for Shape { name, frame, refused, .. } in shapes() {
        match (find(&frame).0, refused) {
            (Found::Ip(_), None) => {}
            (found, refused) => assert_eq!(Some(found), refused.map(Found::Malformed), "{name}"),
        }
    }
}

#[test]
fn no_length_leads_out_of_the_frame_or_to_other_ports() {
    let (mut compared, mut packets) = (0_u64, 0_u64);
    for Shape { name, frame, steering, .. } in shapes() {
        for at in steering {
            let mut frame = frame.clone();
            for value in 0..=255 {
                frame[at] = value;
                for length in 0..=frame.len() {
                    let cut = &frame[..length];
                    let (found, furthest) = find(cut);
                    assert!(furthest <= length);
                    let Found::Ip(packet) = found else { continue };
                    packets += 1;
                    let has_ports = matches!(packet.port >> 16, slot::TCP | slot::UDP);
                    if let (true, Some(other)) = (has_ports, ports(cut)) {
                        assert_eq!(
                            (packet.source_port, packet.destination_port),
                            other,
                            "{name}, byte {at} {value:#x}"
                        );
                        compared += 1;
                    }
                }
            }
        }
    }
    // So many that the loops cannot have been empty.
    assert!(packets > 500_000 && compared > 50_000, "{packets} packets, {compared} with ports");
}

/// Ethernet pads short frames with whatever was in its buffer.
#[test]
fn what_lies_behind_a_packet_decides_nothing() {
    for Shape { name, frame, .. } in shapes() {
        let behind = |junk: u8| find(&[&frame[..], &[junk; 64]].concat()).0;
        for junk in [0, 1, 0x83, 0xff] {
            assert_eq!(behind(junk), find(&frame).0, "{name}, {junk:#x} behind it");
        }
    }
}

/// The answer to a frame cut short at the end of what was read is the same: nothing else was looked at, but how long the frame is.
#[test]
fn a_result_depends_on_what_was_read_alone() {
    for Shape { name, frame, .. } in shapes() {
        let (found, furthest) = find(&frame);
        for junk in [0, 0x83, 0xff] {
            let mut other = frame.clone();
            other[furthest..].fill(junk);
            assert_eq!(find(&other), (found, furthest), "{name}");
        }
    }
}
