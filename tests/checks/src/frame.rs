//! Any bytes as a frame: the parser takes them all, its short way agrees with it, and an answer is a packet of the length it says.
use enforcer_ebpf::{
    address::Address,
    headers::ethertype,
    icmp_error,
    parse::{self, Malformed, Packet, Sink},
    reject::{self, Answer},
    usual,
};

/// What the parser found, in a form that compares.
#[derive(Debug, PartialEq)]
enum Found {
    Ip(Packet<[u32; 4]>),
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

/// Checks one input.
///
/// # Panics
/// If the input shows a fault.
pub fn check(frame: &[u8]) {
    let found = parse::ethernet(&frame, Finder);
    let Ok((kind, offset)) = parse::link(&frame) else {
        assert!(matches!(found, Found::Malformed(_)));
        return;
    };
    let short = usual::ipv4(&frame).map(|packet| Finder.ip(&packet));
    if let Some(short) = short.or_else(|| usual::ipv6(&frame).map(|packet| Finder.ip(&packet))) {
        assert_eq!(short, found);
    }
    let own_length = match kind {
        ethertype::IPV4 => 0,
        ethertype::IPV6 => 40,
        _ => return assert_eq!(found, Found::NonIp(kind)),
    };
    if own_length == 0 {
        icmp_error::ipv4(&frame, offset);
    } else {
        icmp_error::ipv6(&frame, offset);
    }
    // Rules alone reject, and only whole packets come that far.
    if !matches!(found, Found::Ip(_)) {
        return;
    }
    let mut answer = Answer([0; reject::MOST]);
    let (length, at) = if own_length == 0 {
        (reject::ipv4(&frame, offset, &mut answer), 2)
    } else {
        (reject::ipv6(&frame, offset, &mut answer), 4)
    };
    if let Some(length) = length {
        let told = usize::from(u16::from_be_bytes([answer.0[at], answer.0[at + 1]]));
        assert_eq!(told + own_length, length);
        assert!(matches!(parse::network(&&answer.0[..length], kind, 0, Finder), Found::Ip(_)), "a malformed answer");
    }
}
