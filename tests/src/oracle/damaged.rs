//! Frames that are wrong in one way.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv4Options};
use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    Expected, Frame, Hook, Policy, Random,
    frames::{destination, sender},
    headers::{ETHERNET, Network, kind_of},
};

const UDP: [u8; 20] = [1, 144, 1, 187, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What is between the damage and its packet: addresses.
#[derive(Clone, Copy)]
struct Between {
    from: IpAddr,
    to: IpAddr,
}

impl Between {
    fn packet(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let Self { from, to } = self;
        let mut packet = Vec::new();
        Network { from, to, protocol, hop_limit: 64, part: None, payload }.plain(&mut packet);
        packet
    }

    fn with_options(self, options: [u8; 8]) -> Vec<u8> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (self.from, self.to) else { unreachable!("options are IPv4's") };
        let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, from.octets(), to.octets()).expect("small");
        header.options = Ipv4Options::try_from(&options[..]).expect("eight bytes");
        header.set_payload_len(UDP.len()).expect("small");
        let mut packet = Vec::new();
        header.write(&mut packet).expect("to memory");
        packet.extend(UDP);
        packet
    }
}

/// One of them.
pub fn frame(rng: &mut Random, hook: Hook, policy: &Policy) -> Frame {
    let v6 = rng.random_bool(0.5);
    let between = Between { from: sender(rng, hook, v6), to: destination(rng, policy, v6) };
    let mut bytes = ETHERNET.to_vec();
    let mut counter = "malformed";
    let (what, packet) = match rng.random_range(0..16) {
        0 => {
            // Cut off anywhere; test runs want a whole Ethernet header.
            let mut packet = between.packet(17, &UDP);
            packet.truncate(rng.random_range(0..packet.len()));
            ("cut off", packet)
        }
        1 => {
            for _ in 0..rng.random_range(3..5) {
                bytes.extend(*[[0x81, 0, 0, 1], [0x88, 0xa8, 0, 1]].choose(rng).expect("two"));
            }
            ("more than two tags", between.packet(17, &UDP))
        }
        2 => {
            let mut packet = between.packet(17, &UDP);
            packet[0] ^= *[0x10, 0x20, 0x80].choose(rng).expect("three");
            ("a wrong version", packet)
        }
        3 => length(rng, v6, between),
        4..8 => ("a transport header that cannot be", transport(rng, v6, between)),
        8 | 9 => {
            counter = "source-route";
            let packet = if v6 {
                // The kind of routing does not matter, nor does what lies before or behind.
                let routing = [&[17, 0, rng.random_range(0..5), 0, 0, 0, 0, 0][..], &UDP].concat();
                let behind = [&[43, 0, 1, 4, 0, 0, 0, 0][..], &routing].concat();
                if rng.random() { between.packet(43, &routing) } else { between.packet(60, &behind) }
            } else {
                let kind = *[131, 137].choose(rng).expect("two");
                between.with_options([1, kind, 7, 4, 17, 1, 2, 3])
            };
            ("a source route", packet)
        }
        10 | 11 => chain(rng, v6, between),
        _ => fragment(rng, v6, between),
    };
    bytes.extend(kind_of(between.to).to_be_bytes());
    bytes.extend(packet);
    Frame { hook, bytes, expected: Some(Expected::new(false, counter)), what: what.into() }
}

/// A network header's length that contradicts the frame or its own least.
fn length(rng: &mut Random, v6: bool, between: Between) -> (&'static str, Vec<u8>) {
    let mut packet = between.packet(17, &UDP);
    if !v6 && rng.random() {
        packet[0] = 0x40 | rng.random_range(0..5_u8);
        return ("a header length below 5", packet);
    }
    let (at, whole) = if v6 { (4, UDP.len()) } else { (2, packet.len()) };
    let claimed = if !v6 && rng.random() { rng.random_range(0..20) } else { whole as u16 + rng.random_range(1..100) };
    packet[at..at + 2].copy_from_slice(&claimed.to_be_bytes());
    ("a length that cannot be", packet)
}

/// Lengths in transport headers, and headers that end before they are whole.
fn transport(rng: &mut Random, v6: bool, between: Between) -> Vec<u8> {
    let claiming = |claimed: u16| {
        let mut bytes = UDP;
        bytes[4..6].copy_from_slice(&claimed.to_be_bytes());
        bytes
    };
    let offset = |words: u8| {
        let mut tcp = [0; 20];
        tcp[12] = words << 4;
        tcp
    };
    match rng.random_range(0..6) {
        0 => between.packet(17, &claiming(rng.random_range(0..8))),
        1 => between.packet(17, &claiming(rng.random_range(21..=u16::MAX))),
        // Of UDP-Lite 0 is right.
        2 => between.packet(136, &claiming(rng.random_range(1..8))),
        3 => between.packet(136, &claiming(rng.random_range(21..=u16::MAX))),
        4 => {
            let words = if rng.random() { rng.random_range(0..5) } else { rng.random_range(6..16) };
            between.packet(6, &offset(words))
        }
        _ => {
            let icmp = if v6 { 58 } else { 1 };
            let (protocol, header) = *[(6, 20), (17, 8), (132, 12), (136, 8), (icmp, 8)].choose(rng).expect("five");
            between.packet(protocol, &offset(5)[..rng.random_range(0..header)])
        }
    }
}

/// Options and extension headers that do not add up.
fn chain(rng: &mut Random, v6: bool, between: Between) -> (&'static str, Vec<u8>) {
    if !v6 {
        let options = match rng.random_range(0..3) {
            0 => [148, rng.random_range(0..2), 0, 0, 1, 1, 1, 1],
            1 => [1, 1, 1, 1, 148, rng.random_range(5..=255), 0, 0],
            _ => [1, 1, 1, 1, 1, 1, 1, 148],
        };
        return ("an option whose length cannot be", between.with_options(options));
    }
    let empty = |next: u8| [next, 0, 0, 0, 0, 0, 0, 0];
    match rng.random_range(0..5) {
        0 => {
            let headers = [empty(60).repeat(6), empty(17).to_vec(), UDP.to_vec()].concat();
            ("seven extension headers", between.packet(60, &headers))
        }
        1 => (
            "hop-by-hop options behind another header",
            between.packet(60, &[&empty(0)[..], &empty(17), &UDP].concat()),
        ),
        2 => {
            let head = [17, 0, 0, 1, 0, 0, 0, 1];
            ("two fragment headers", between.packet(44, &[&[44, 0, 0, 1, 0, 0, 0, 1][..], &head, &UDP].concat()))
        }
        3 => {
            let beyond = [17, rng.random_range(4..=255), 0, 0, 0, 0, 0, 0];
            ("an extension header beyond the packet", between.packet(60, &[&beyond[..], &UDP].concat()))
        }
        _ => {
            let solicitation = [&[rng.random_range(133..138), 0, 0, 0, 0, 0, 0, 0][..], &[1; 16]].concat();
            ("neighbour discovery from afar", between.packet(58, &solicitation))
        }
    }
}

/// Parts that would end beyond the largest packet, leave a gap of less than eight bytes, are empty, or cut the transport header.
fn fragment(rng: &mut Random, v6: bool, between: Between) -> (&'static str, Vec<u8>) {
    let part = |protocol: u8, field: u16, payload: &[u8]| {
        if v6 {
            // Offset and flag lie three bits apart here, one above the other there.
            let field = (field & 0x1fff) << 3 | field >> 13;
            let header = [&[protocol, 0][..], &field.to_be_bytes(), &[0, 0, 0, 1]].concat();
            return between.packet(44, &[&header, payload].concat());
        }
        let mut packet = between.packet(protocol, payload);
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        packet
    };
    const MORE: u16 = 0x2000;
    match rng.random_range(0..4) {
        0 => ("a fragment beyond 65,535", part(17, 0x1fff, &[0; 24])),
        1 => ("a fragment with a gap behind it", part(17, MORE | 5, &[0; 17])),
        2 => ("an empty fragment", part(17, MORE | 5, &[])),
        _ => {
            let (protocol, length) = *[(6, 16), (132, 8)].choose(rng).expect("two");
            ("a first fragment that cuts its header", part(protocol, MORE, &vec![0; length]))
        }
    }
}
