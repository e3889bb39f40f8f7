//! Random frames, with what should become of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    EtherType, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header,
    Ipv4Options, Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader,
};
use rand::{Rng, RngExt as _, seq::IndexedRandom as _};

use super::{
    Expected,
    policy::{LAN4, LAN6, Policy, Seen},
};

/// A frame and what is expected of it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What should become of it.
    pub expected: Expected,
    /// How it was made, for reports.
    pub what: String,
}

/// A transport header with its payload, and what rules see of it.
struct Transport {
    protocol: u8,
    bytes: Vec<u8>,
    selector: Option<(u16, [u8; 2])>,
    /// Bytes that must be there for the header to be whole.
    header: usize,
}

/// One random frame, or a head and its later fragments, in the order in which they are to be sent.
pub fn random(rng: &mut impl Rng, policy: &Policy) -> Vec<Frame> {
    match rng.random_range(0..100) {
        0..4 => vec![without_ip(rng)],
        4..10 => fragments(rng, policy),
        10..20 => vec![damaged(rng, policy)],
        _ => vec![whole(rng, policy)],
    }
}

fn address(rng: &mut impl Rng, policy: &Policy, v6: bool) -> IpAddr {
    let service = policy.services.choose(rng).expect("a policy has services");
    let near = service.to.choose(rng).expect("a service has prefixes").near(rng);
    if near.is_ipv6() == v6 {
        return near;
    }
    if v6 {
        Ipv6Addr::from(
            0x2620_0149_0a44_0000_u128 << 64 ^ rng.random::<u128>() & 0x0001_0003_0100_00ff_0000_0000_0000_03ff,
        )
        .into()
    } else {
        Ipv4Addr::from(0x1100_0000 ^ rng.random::<u32>() & 0x0101_83ff).into()
    }
}

fn ports(rng: &mut impl Rng) -> (u16, u16) {
    let destination = match rng.random_range(0..20) {
        0 => *[4789, 8472, 6081, 4788].choose(rng).expect("four"),
        1 => rng.random(),
        _ => rng.random_range(395..505),
    };
    (rng.random(), destination)
}

fn transport(rng: &mut impl Rng, v6: bool) -> Transport {
    let payload: Vec<u8> = (0..rng.random_range(0..40)).map(|_| rng.random()).collect();
    let (source, destination) = ports(rng);
    let mut bytes = Vec::new();
    let [kind, code] = [rng.random_range(0..5_u8), rng.random_range(0..5_u8)];
    match rng.random_range(0..10) {
        0..4 => {
            let mut header = TcpHeader::new(source, destination, rng.random(), rng.random());
            header.syn = rng.random();
            if rng.random_bool(0.3) {
                header.set_options_raw(&[1; 12]).expect("twelve fit");
            }
            header.write(&mut bytes).expect("to memory");
            let header = bytes.len();
            bytes.extend(payload);
            Transport { protocol: 6, bytes, selector: Some((destination, [0; 2])), header }
        }
        4..7 => {
            let length = 8 + payload.len() as u16;
            UdpHeader { source_port: source, destination_port: destination, length, checksum: 0 }
                .write(&mut bytes)
                .expect("to memory");
            bytes.extend(payload);
            Transport { protocol: 17, bytes, selector: Some((destination, [0; 2])), header: 8 }
        }
        7 => {
            bytes.extend(source.to_be_bytes());
            bytes.extend(destination.to_be_bytes());
            bytes.extend([0; 8]);
            bytes.extend(payload);
            Transport { protocol: 132, bytes, selector: Some((destination, [0; 2])), header: 12 }
        }
        8 if v6 => {
            let kind = *[128, 129, 1].choose(rng).expect("three");
            let message = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [1; 4] };
            Icmpv6Header::new(message).write(&mut bytes).expect("to memory");
            bytes.extend(payload);
            Transport { protocol: 58, bytes, selector: Some((0, [kind, code])), header: 8 }
        }
        8 => {
            let kind = if rng.random_bool(0.3) { kind } else { 8 };
            let message = if kind == 8 && code == 0 {
                Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 7, seq: 1 })
            } else {
                Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [1; 4] }
            };
            Icmpv4Header::new(message).write(&mut bytes).expect("to memory");
            bytes.extend(payload);
            Transport { protocol: 1, bytes, selector: Some((0, [kind, code])), header: 8 }
        }
        // Without ports; and each family's ICMP in the other one, which means nothing.
        _ => {
            let strange = if v6 { 1 } else { 58 };
            let protocol = *[47, 50, 51, 89, strange].choose(rng).expect("five");
            Transport { protocol, bytes: payload, selector: None, header: 0 }
        }
    }
}

/// Ethernet, up to two VLAN tags.
fn link(rng: &mut impl Rng, kind: u16) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for _ in 0..*[0, 0, 0, 1, 2].choose(rng).expect("five") {
        bytes.extend((*[0x8100_u16, 0x88a8].choose(rng).expect("two")).to_be_bytes());
        bytes.extend(rng.random::<u16>().to_be_bytes());
    }
    bytes.extend(kind.to_be_bytes());
    bytes
}

/// The network header with what lies between it and the transport.
struct Network<'a> {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    /// Identification, offset in bytes, more to come.
    part: Option<(u32, usize, bool)>,
    /// Bytes behind the network header.
    payload: &'a [u8],
}

impl Network<'_> {
    fn write(&self, rng: &mut impl Rng, bytes: &mut Vec<u8>) {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let protocol = IpNumber(self.protocol);
                let mut header = Ipv4Header::new(0, 64, protocol, from.octets(), to.octets()).expect("a small payload");
                if rng.random_bool(0.15) {
                    // Router alert, padded by no-operations or an end.
                    let padding = if rng.random() { [1; 4] } else { [0; 4] };
                    header.options =
                        Ipv4Options::try_from(&[&[148, 4, 0, 0][..], &padding].concat()[..]).expect("eight bytes");
                }
                if let Some((id, offset, more)) = self.part {
                    header.identification = id as u16;
                    header.more_fragments = more;
                    header.fragment_offset = IpFragOffset::try_new((offset / 8) as u16).expect("a small offset");
                }
                header.set_payload_len(self.payload.len()).expect("a small payload");
                header.header_checksum = header.calc_header_checksum();
                header.write(bytes).expect("to memory");
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut extensions: Vec<(u8, Vec<u8>)> = Vec::new();
                if rng.random_bool(0.1) {
                    extensions.push((0, vec![0; 6]));
                }
                if rng.random_bool(0.1) {
                    extensions.push((60, vec![0; 14]));
                }
                let mut behind = Vec::new();
                let mut numbers: Vec<u8> = extensions.iter().map(|(number, _)| *number).collect();
                if self.part.is_some() {
                    numbers.push(44);
                }
                numbers.push(self.protocol);
                for (index, (_, body)) in extensions.iter().enumerate() {
                    behind.push(numbers[index + 1]);
                    behind.push(((body.len() + 2) / 8 - 1) as u8);
                    behind.extend(body);
                }
                if let Some((id, offset, more)) = self.part {
                    let offset = IpFragOffset::try_new((offset / 8) as u16).expect("a small offset");
                    Ipv6FragmentHeader::new(IpNumber(self.protocol), offset, more, id)
                        .write(&mut behind)
                        .expect("to memory");
                }
                behind.extend(self.payload);
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: behind.len() as u16,
                    next_header: IpNumber(numbers[0]),
                    hop_limit: 64,
                    source: from.octets(),
                    destination: to.octets(),
                };
                header.write(bytes).expect("to memory");
                bytes.extend(behind);
                return;
            }
            _ => unreachable!("both addresses are of one family"),
        }
        bytes.extend(self.payload);
    }
}

fn kind_of(to: IpAddr) -> u16 {
    if to.is_ipv6() { EtherType::IPV6.0 } else { EtherType::IPV4.0 }
}

fn client(rng: &mut impl Rng, v6: bool) -> IpAddr {
    loop {
        let lan = if v6 { LAN6 } else { LAN4 };
        let near = lan.near(rng);
        // The gateway's own address and the broadcast address are no clients.
        if lan.holds(near)
            && near != "10.1.0.1".parse::<IpAddr>().expect("an address")
            && near != "10.1.0.255".parse::<IpAddr>().expect("an address")
            && near != "fd00:1::1".parse::<IpAddr>().expect("an address")
        {
            return near;
        }
    }
}

/// What is expected of a whole packet between addresses, before its rules are asked.
fn before_rules(from: IpAddr, to: IpAddr, protocol: u8, port: Option<u16>) -> Option<Expected> {
    let text = |address: &str| address.parse::<IpAddr>().expect("an address");
    let own = to == text("10.1.0.1") || to == text("fd00:1::1");
    let link_local = |address: IpAddr| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let local = own
        || LAN4.holds(to)
        || LAN6.holds(to)
        || to.is_multicast()
        || to == text("255.255.255.255")
        || (to.is_ipv6() && link_local(to));
    let forged4 = from == text("10.1.0.1") || from == text("10.1.0.255");
    let belongs = (LAN4.holds(from) && !forged4) || (LAN6.holds(from) && from != text("fd00:1::1"));
    if !belongs && !(local && (link_local(from) || from.is_unspecified())) {
        return Some(Expected::new(false, "source"));
    }
    let tunnel = matches!(protocol, 4 | 41 | 47) || (protocol == 17 && matches!(port, Some(4789 | 8472 | 6081)));
    let neighbour = !own && (LAN4.holds(to) || LAN6.holds(to)) && to != text("10.1.0.255");
    (local && (neighbour || !tunnel)).then(|| Expected::new(true, "local"))
}

fn whole(rng: &mut impl Rng, policy: &Policy) -> Frame {
    let v6 = rng.random_bool(0.4);
    let mut to = address(rng, policy, v6);
    let mut from = client(rng, v6);
    let special = |rng: &mut dyn Rng, v4: &[&str], v6s: &[&str]| -> IpAddr {
        let mut rng = rng;
        (if v6 { v6s } else { v4 }).choose(&mut rng).expect("some").parse().expect("an address")
    };
    if rng.random_bool(0.06) {
        to = special(
            rng,
            &["10.1.0.1", "10.1.0.77", "10.1.0.255", "224.0.0.251", "255.255.255.255", "169.254.1.1", "10.1.1.0"],
            &["fd00:1::1", "fd00:1::77", "ff02::1", "fe80::1", "fd00:1:0:1::1"],
        );
    }
    if rng.random_bool(0.06) {
        from = special(
            rng,
            &["10.1.0.1", "10.1.0.255", "10.1.1.2", "17.1.2.3", "0.0.0.0", "169.254.3.4", "224.0.0.1", "127.0.0.1"],
            &["fd00:1::1", "fd00:1:0:1::2", "2620:149::5", "::", "fe80::3", "ff02::1", "::1"],
        );
    }
    let transport = transport(rng, v6);
    let mut bytes = link(rng, kind_of(to));
    Network { from, to, protocol: transport.protocol, part: None, payload: &transport.bytes }.write(rng, &mut bytes);
    // Ethernet pads short frames.
    if rng.random_bool(0.2) {
        bytes.extend([0; 20]);
    }
    let port = transport.selector.map(|(port, _)| port);
    let seen = Seen { from, to, protocol: transport.protocol, selector: transport.selector };
    let expected = before_rules(from, to, transport.protocol, port).unwrap_or_else(|| policy.judge(&seen));
    Frame { bytes, expected, what: format!("{seen:?}") }
}

fn without_ip(rng: &mut impl Rng) -> Frame {
    let (kind, expected) = *[
        (0x0806, true),
        (0x8809, true),
        (0x888e, true),
        (0x88cc, true),
        (0x0026, true),
        (0x05ff, true),
        (0x0600, false),
        (0x8863, false),
        (0x8864, false),
        (0x8847, false),
        (0xffff, false),
    ]
    .choose(rng)
    .expect("some");
    let mut bytes = link(rng, kind);
    bytes.extend((0..rng.random_range(0..50)).map(|_| rng.random::<u8>()));
    let expected = if expected { Expected::new(true, "non-ip-exempt") } else { Expected::new(false, "non-ip") };
    Frame { bytes, expected, what: format!("EtherType {kind:#06x}") }
}

/// A head with its later parts: in order, overlapping, or orphaned.
fn fragments(rng: &mut impl Rng, policy: &Policy) -> Vec<Frame> {
    let v6 = rng.random_bool(0.4);
    let (from, to) = (client(rng, v6), address(rng, policy, v6));
    let mut transport = transport(rng, v6);
    let cut = (transport.header.max(8) + rng.random_range(0..16)).next_multiple_of(8);
    transport.bytes.resize(cut, 0);
    if transport.protocol == 17 {
        transport.bytes[4..6].copy_from_slice(&2000_u16.to_be_bytes());
    }
    // Of one packet alone: the table remembers heads across packets.
    let id = if v6 { rng.random() } else { u32::from(rng.random::<u16>()) };
    let port = transport.selector.map(|(port, _)| port);
    let seen = Seen { from, to, protocol: transport.protocol, selector: transport.selector };
    let head = before_rules(from, to, transport.protocol, port).unwrap_or_else(|| policy.judge(&seen));
    let mut frames = Vec::new();
    let mut add = |rng: &mut dyn Rng, payload: &[u8], offset: usize, more: bool, expected: Expected| {
        let mut rng = rng;
        let mut bytes = link(&mut rng, kind_of(to));
        Network { from, to, protocol: transport.protocol, part: Some((id, offset, more)), payload }
            .write(&mut rng, &mut bytes);
        frames.push(Frame { bytes, expected, what: format!("part at {offset} of {seen:?}") });
    };
    let orphan = rng.random_bool(0.2);
    if !orphan {
        add(rng, &transport.bytes, 0, true, head.clone());
    }
    for _ in 0..rng.random_range(1..4) {
        let overlap = cut >= 16 && rng.random_bool(0.2);
        let offset = if overlap { rng.random_range(1..cut / 8) * 8 } else { cut + 8 * rng.random_range(0..20) };
        let follows = head.passes && !orphan && offset >= cut;
        let expected = match before_rules(from, to, transport.protocol, None) {
            Some(expected) => expected,
            None if follows => head.clone(),
            None => Expected::new(false, "fragment"),
        };
        let more = rng.random();
        add(rng, &[9; 16], offset, more, expected);
    }
    frames
}

/// A frame that is wrong in one way.
fn damaged(rng: &mut impl Rng, policy: &Policy) -> Frame {
    let malformed = || Expected::new(false, "malformed");
    let v6 = rng.random_bool(0.5);
    let (from, to) = (client(rng, v6), address(rng, policy, v6));
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let udp = [&400_u16.to_be_bytes()[..], &443_u16.to_be_bytes(), &20_u16.to_be_bytes(), &[0; 14]].concat();
    let network = |protocol: u8, payload: &[u8]| {
        let mut packet = Vec::new();
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header =
                    Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), from.octets(), to.octets())
                        .expect("small");
                header.header_checksum = header.calc_header_checksum();
                header.write(&mut packet).expect("to memory");
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: payload.len() as u16,
                next_header: IpNumber(protocol),
                hop_limit: 64,
                source: from.octets(),
                destination: to.octets(),
            }
            .write(&mut packet)
            .expect("to memory"),
            _ => unreachable!("both addresses are of one family"),
        }
        packet.extend(payload);
        packet
    };
    let (what, packet) = match rng.random_range(0..13) {
        0 => {
            // Cut off anywhere; test runs want a whole Ethernet header.
            let packet = network(17, &udp);
            let keep = rng.random_range(0..packet.len());
            ("cut off", packet[..keep].to_vec())
        }
        1 => {
            bytes.extend([0x81, 0, 0, 1].repeat(3));
            ("three tags", network(17, &udp))
        }
        2 => {
            let mut packet = network(17, &udp);
            packet[0] ^= *[0x10, 0x20, 0x80].choose(rng).expect("three");
            ("a wrong version", packet)
        }
        3 if !v6 => {
            let mut packet = network(17, &udp);
            packet[0] = 0x40 | rng.random_range(0..5_u8);
            ("a header length below 5", packet)
        }
        4 => {
            let mut packet = network(17, &udp);
            let (at, length) = if v6 { (4, 21_u16) } else { (2, 41) };
            packet[at..at + 2].copy_from_slice(&(length + rng.random_range(0..100_u16)).to_be_bytes());
            ("a length beyond the frame", packet)
        }
        5 => {
            let mut udp = udp.clone();
            udp[4..6].copy_from_slice(&rng.random_range(0..8_u16).to_be_bytes());
            ("a UDP length below 8", network(17, &udp))
        }
        6 => {
            let mut udp = udp.clone();
            udp[4..6].copy_from_slice(&rng.random_range(21..=u16::MAX).to_be_bytes());
            ("a UDP length beyond the packet", network(17, &udp))
        }
        7 => {
            let mut tcp = vec![0; 20];
            tcp[12] = rng.random_range(0..5_u8) << 4;
            ("a TCP offset below 5", network(6, &tcp))
        }
        8 => {
            let mut tcp = vec![0; 20];
            tcp[12] = rng.random_range(6..16_u8) << 4;
            ("a TCP offset beyond the packet", network(6, &tcp))
        }
        9 if v6 => {
            ("a routing header", network(43, &[&[17, 0, rng.random_range(0..5), 0, 0, 0, 0, 0][..], &udp].concat()))
        }
        9 => {
            let IpAddr::V4(from) = from else { unreachable!("IPv4") };
            let IpAddr::V4(to) = to else { unreachable!("IPv4") };
            let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, from.octets(), to.octets()).expect("small");
            let kind = *[131, 137].choose(rng).expect("two");
            header.options = Ipv4Options::try_from(&[1, kind, 7, 4, 17, 1, 2, 3][..]).expect("eight bytes");
            header.set_payload_len(udp.len()).expect("small");
            let mut packet = Vec::new();
            header.write(&mut packet).expect("to memory");
            packet.extend(&udp);
            ("a source route", packet)
        }
        10 if v6 => (
            "neighbour discovery from afar",
            network(58, &[135, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        ),
        11 if v6 => {
            let mut payload = Vec::new();
            for _ in 0..7 {
                payload.extend([60, 0, 0, 0, 0, 0, 0, 0]);
            }
            *payload.get_mut(48).expect("seven headers") = 17;
            payload.extend(&udp);
            ("seven extension headers", network(60, &payload))
        }
        11 => {
            // A first fragment without its whole transport header.
            let mut packet = network(6, &[0; 16]);
            packet[6] = 0x20;
            ("a tiny first fragment", packet)
        }
        _ => {
            // A fragment that would end beyond the largest packet.
            let packet = if v6 {
                network(44, &[&[17, 0, 0xff, 0xf8, 0, 0, 0, 1][..], &[0; 24]].concat())
            } else {
                let mut packet = network(17, &[0; 24]);
                packet[6..8].copy_from_slice(&0x1fff_u16.to_be_bytes());
                packet
            };
            ("a fragment beyond 65,535", packet)
        }
    };
    bytes.extend(kind_of(to).to_be_bytes());
    bytes.extend(packet);
    Frame { bytes, expected: malformed(), what: what.into() }
}
