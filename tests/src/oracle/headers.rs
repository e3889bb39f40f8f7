//! Whole headers, written by a packet-building crate.

use std::net::IpAddr;

use etherparse::{
    EtherType, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header,
    Ipv4Options, Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader,
};
use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    Random,
    policy::{PORTLESS, Upper},
};

/// Ethernet addresses, of one receiver.
pub const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// Ethernet, up to two VLAN tags of either kind.
pub fn link(rng: &mut Random, kind: u16) -> Vec<u8> {
    let mut bytes = ETHERNET.to_vec();
    for _ in 0..*[0, 0, 0, 1, 2].choose(rng).expect("five") {
        bytes.extend((*[0x8100_u16, 0x88a8].choose(rng).expect("two")).to_be_bytes());
        bytes.extend(rng.random::<u16>().to_be_bytes());
    }
    bytes.extend(kind.to_be_bytes());
    bytes
}

/// The EtherType of packets to an address.
pub fn kind_of(to: IpAddr) -> u16 {
    if to.is_ipv6() { EtherType::IPV6.0 } else { EtherType::IPV4.0 }
}

/// A transport header with its payload, and what rules see of it.
pub struct Transport {
    /// Protocol number.
    pub protocol: u8,
    /// Header and payload.
    pub bytes: Vec<u8>,
    /// What it says.
    pub upper: Upper,
    /// Bytes that must be there for the header to be whole.
    pub header: usize,
    /// What its sender must set for it to be believed; else 64.
    pub hop_limit: u8,
    /// Whether a connection may begin with it: of TCP, a SYN alone.
    pub opens: bool,
}

impl Transport {
    /// A header of a protocol with ports.
    pub fn with_ports(rng: &mut Random, protocol: u8, source: u16, destination: u16, payload: &[u8]) -> Self {
        let (mut bytes, mut opens) = (Vec::new(), true);
        match protocol {
            6 => {
                let mut header = TcpHeader::new(source, destination, rng.random(), rng.random());
                let flags = if rng.random_bool(0.4) { [true, false, false, false] } else { rng.random() };
                [header.syn, header.ack, header.rst, header.fin] = flags;
                opens = flags == [true, false, false, false];
                if rng.random_bool(0.3) {
                    header.set_options_raw(&[1; 12]).expect("twelve fit");
                }
                header.write(&mut bytes).expect("to memory");
            }
            17 => {
                let length = 8 + payload.len() as u16;
                let header = UdpHeader { source_port: source, destination_port: destination, length, checksum: 0 };
                header.write(&mut bytes).expect("to memory");
            }
            _ => {
                bytes.extend([source, destination].into_iter().flat_map(u16::to_be_bytes));
                if protocol == 132 {
                    bytes.extend([0; 8]);
                } else {
                    // UDP-Lite: all, or from the header on.
                    let covered = if rng.random() { 0 } else { rng.random_range(8..=8 + payload.len() as u16) };
                    bytes.extend(covered.to_be_bytes());
                    bytes.extend([0; 2]);
                }
            }
        }
        let header = bytes.len();
        bytes.extend(payload);
        Self { protocol, bytes, upper: Upper::Ports(source, destination), header, hop_limit: 64, opens }
    }

    fn icmp(rng: &mut Random, v6: bool, payload: &[u8]) -> Self {
        let id = rng.random::<u16>();
        let code = rng.random_range(0..5_u8);
        let kinds: &[u8] = if v6 { &[128, 128, 129, 1, 2, 135, 136] } else { &[8, 8, 8, 0, 1, 2, 3, 4] };
        let kind = *kinds.choose(rng).expect("some");
        let echo = if v6 { matches!(kind, 128 | 129) } else { matches!(kind, 0 | 8) };
        let mut bytes = Vec::new();
        if v6 {
            let [high, low] = id.to_be_bytes();
            let message = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [high, low, 0, 1] };
            Icmpv6Header::new(message).write(&mut bytes).expect("to memory");
        } else {
            let message = if kind == 8 && code == 0 {
                Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: 1 })
            } else {
                let [high, low] = id.to_be_bytes();
                Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [high, low, 0, 1] }
            };
            Icmpv4Header::new(message).write(&mut bytes).expect("to memory");
        }
        bytes.extend(payload);
        let hop_limit = if v6 && matches!(kind, 133..=137) { 255 } else { 64 };
        let protocol = if v6 { 58 } else { 1 };
        let upper = Upper::Icmp([kind, code], echo.then_some(id));
        Self { protocol, bytes, upper, header: 8, hop_limit, opens: true }
    }

    /// Any.
    pub fn random(rng: &mut Random, v6: bool) -> Self {
        let most = if rng.random_bool(0.02) { 1400 } else { 40 };
        let payload: Vec<u8> = (0..rng.random_range(0..most)).map(|_| rng.random()).collect();
        let destination = match rng.random_range(0..20) {
            0 => *[4789, 8472, 6081, 4788].choose(rng).expect("four"),
            1 => rng.random(),
            _ => rng.random_range(395..505),
        };
        let source = rng.random();
        match rng.random_range(0..12) {
            0..4 => Self::with_ports(rng, 6, source, destination, &payload),
            4..7 => Self::with_ports(rng, 17, source, destination, &payload),
            7 => Self::with_ports(rng, 132, source, destination, &payload),
            8 => Self::with_ports(rng, 136, source, destination, &payload),
            9 => Self::icmp(rng, v6, &payload),
            _ => {
                // Each family's ICMP in the other one means nothing, and IPv6's headers mean nothing in IPv4.
                let strange: &[u8] = if v6 { &[1] } else { &[58, 0, 43, 44, 60] };
                let protocol = *[&PORTLESS[..], strange].concat().choose(rng).expect("some");
                Self { protocol, bytes: payload, upper: Upper::Nothing, header: 0, hop_limit: 64, opens: true }
            }
        }
    }
}

/// The network header with what lies between it and the transport.
pub struct Network<'a> {
    /// Source.
    pub from: IpAddr,
    /// Destination.
    pub to: IpAddr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Hop limit or time to live.
    pub hop_limit: u8,
    /// Identification, offset in bytes, more to come.
    pub part: Option<(u32, usize, bool)>,
    /// Bytes behind the network header.
    pub payload: &'a [u8],
}

impl Network<'_> {
    /// Without options and extension headers.
    pub fn plain(&self, bytes: &mut Vec<u8>) {
        self.write(bytes, &[], &[]);
    }

    /// With what options and extension headers there may be.
    pub fn random(&self, rng: &mut Random, bytes: &mut Vec<u8>) {
        if self.to.is_ipv4() {
            // Router alert, padded by no-operations, or by an end behind which nothing is looked at.
            let options: &[u8] = match rng.random_range(0..20) {
                0 => &[148, 4, 0, 0, 1, 1, 1, 1],
                1 => &[148, 4, 0, 0, 0, 131, 7, 4],
                2 => &[1; 40],
                _ => &[],
            };
            return self.write(bytes, options, &[]);
        }
        let mut extensions = Vec::new();
        if rng.random_bool(0.1) {
            extensions.push((0, vec![0; 6]));
        }
        if rng.random_bool(0.15) {
            // Six headers are the most; the fragment header is one of them.
            let room = rng.random_range(1..=5 - extensions.len());
            extensions.extend((0..room).map(|_| (60, vec![0; *[6, 14, 62].choose(rng).expect("three")])));
        }
        // An atomic fragment (RFC 6946) is a whole packet.
        if self.part.is_none() && rng.random_bool(0.03) {
            extensions.push((44, vec![0; 6]));
        }
        self.write(bytes, &[], &extensions);
    }

    fn write(&self, bytes: &mut Vec<u8>, options: &[u8], extensions: &[(u8, Vec<u8>)]) {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let protocol = IpNumber(self.protocol);
                let mut header =
                    Ipv4Header::new(0, self.hop_limit, protocol, from.octets(), to.octets()).expect("a small payload");
                header.options = Ipv4Options::try_from(options).expect("at most forty bytes");
                if let Some((id, offset, more)) = self.part {
                    header.identification = id as u16;
                    header.more_fragments = more;
                    header.fragment_offset = offset_of(offset);
                }
                header.set_payload_len(self.payload.len()).expect("a small payload");
                header.header_checksum = header.calc_header_checksum();
                header.write(bytes).expect("to memory");
                bytes.extend(self.payload);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut numbers: Vec<u8> = extensions.iter().map(|(number, _)| *number).collect();
                numbers.extend(self.part.map(|_| 44));
                numbers.push(self.protocol);
                let mut behind = Vec::new();
                for (index, (number, body)) in extensions.iter().enumerate() {
                    behind.push(numbers[index + 1]);
                    // The fragment header's is reserved.
                    behind.push(if *number == 44 { 0 } else { ((body.len() + 2) / 8 - 1) as u8 });
                    behind.extend(body);
                }
                if let Some((id, offset, more)) = self.part {
                    let header = Ipv6FragmentHeader::new(IpNumber(self.protocol), offset_of(offset), more, id);
                    header.write(&mut behind).expect("to memory");
                }
                behind.extend(self.payload);
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: behind.len() as u16,
                    next_header: IpNumber(numbers[0]),
                    hop_limit: self.hop_limit,
                    source: from.octets(),
                    destination: to.octets(),
                };
                header.write(bytes).expect("to memory");
                bytes.extend(behind);
            }
            _ => unreachable!("both addresses are of one family"),
        }
    }
}

fn offset_of(bytes: usize) -> IpFragOffset {
    IpFragOffset::try_new((bytes / 8) as u16).expect("a small offset")
}
