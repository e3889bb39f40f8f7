//! The short way for what nearly every packet is: TCP or UDP in one piece, in an untagged frame, without options or extension headers. Its bounds are checked once and its
//! fields read where they must lie.

use core::mem::offset_of;

use crate::{
    abi::{Words6, slot},
    address::words,
    bytes::{Direct, Fields},
    headers::{Ethernet, Fixed, Ipv4, Ipv6, Transports, ethertype, protocol},
    parse::{Fragment, Packet, quic_stands, tcp_stands},
};

/// The usual IPv4 packet in a frame; nothing if it is not one or malformed: [`crate::parse::ethernet`] finds out which.
#[inline(always)]
pub fn ipv4(frame: &impl Direct) -> Option<Packet<u32>> {
    let fields = frame.fields::<{ Ipv4::END + size_of::<Transports>() }>()?;
    if fields.half::<(), { offset_of!(Ethernet, kind) }>() != ethertype::IPV4.to_be()
        || fields.byte::<Ethernet, { offset_of!(Ipv4, version_length) }>() != 0x45
        || fields.half::<Ethernet, { offset_of!(Ipv4, fragment) }>() & 0x3fff_u16.to_be() != 0
    {
        return None;
    }
    let length = usize::from(u16::from_be(fields.half::<Ethernet, { offset_of!(Ipv4, total_length) }>()));
    if Ethernet::END + length > frame.size() {
        return None;
    }
    let length = length.checked_sub(size_of::<Ipv4>())?;
    let transport = transport::<Ipv4>(fields, fields.byte::<Ethernet, { offset_of!(Ipv4, protocol) }>(), length)?;
    let source = u32::from_be(fields.word::<Ethernet, { offset_of!(Ipv4, source) }>());
    Some(transport.between(source, u32::from_be(fields.word::<Ethernet, { offset_of!(Ipv4, destination) }>())))
}

/// The usual IPv6 packet in a frame, likewise.
#[inline(always)]
pub fn ipv6(frame: &impl Direct) -> Option<Packet<Words6>> {
    let fields = frame.fields::<{ Ipv6::END + size_of::<Transports>() }>()?;
    let length = usize::from(u16::from_be(fields.half::<Ethernet, { offset_of!(Ipv6, payload_length) }>()));
    if fields.half::<(), { offset_of!(Ethernet, kind) }>() != ethertype::IPV6.to_be()
        || fields.byte::<Ethernet, { offset_of!(Ipv6, version) }>() >> 4 != 6
        || Ipv6::END + length > frame.size()
    {
        return None;
    }
    let transport = transport::<Ipv6>(fields, fields.byte::<Ethernet, { offset_of!(Ipv6, next) }>(), length)?;
    let source = words(
        u64::from_be(fields.double::<Ethernet, { offset_of!(Ipv6, source) }>()),
        u64::from_be(fields.double::<Ethernet, { offset_of!(Ipv6, source) + 8 }>()),
    );
    let destination = words(
        u64::from_be(fields.double::<Ethernet, { offset_of!(Ipv6, destination) }>()),
        u64::from_be(fields.double::<Ethernet, { offset_of!(Ipv6, destination) + 8 }>()),
    );
    Some(transport.between(source, destination))
}

impl Packet<()> {
    /// With its addresses.
    #[inline(always)]
    fn between<A>(self, source: A, destination: A) -> Packet<A> {
        let Self { protocol, port, source_port, destination_port, tcp_flags, stands, fragment, .. } = self;
        Packet { source, destination, protocol, port, source_port, destination_port, tcp_flags, stands, fragment }
    }
}

/// What follows the network header, if it is a whole TCP or UDP header whose lengths fit `length` bytes of header and payload.
#[inline(always)]
fn transport<N: Fixed>(fields: impl Fields, protocol: u8, length: usize) -> Option<Packet<()>> {
    let (slot, tcp_flags) = match protocol {
        protocol::TCP => {
            let header = usize::from(fields.byte::<N, { offset_of!(Transports, tcp_offset) }>() >> 4) * 4;
            if header < 20 || header > length {
                return None;
            }
            (slot::TCP, fields.byte::<N, { offset_of!(Transports, tcp_flags) }>())
        }
        protocol::UDP => {
            let claimed = usize::from(u16::from_be(fields.half::<N, { offset_of!(Transports, udp_length) }>()));
            if claimed < 8 || claimed > length {
                return None;
            }
            (slot::UDP, 0)
        }
        _ => return None,
    };
    let destination_port = u16::from_be(fields.half::<N, { offset_of!(Transports, ports.destination) }>());
    let stands = if slot == slot::TCP {
        tcp_stands(tcp_flags)
    } else if u16::from_be(fields.half::<N, { offset_of!(Transports, udp_length) }>()) > 8 {
        quic_stands(destination_port, fields.byte::<N, { offset_of!(Transports, udp_payload) }>())
    } else {
        // A datagram without payload may be padded with anything.
        0
    };
    Some(Packet {
        source: (),
        destination: (),
        protocol,
        port: slot << 16 | u32::from(destination_port),
        source_port: u16::from_be(fields.half::<N, { offset_of!(Transports, ports.source) }>()),
        destination_port,
        tcp_flags,
        stands,
        fragment: Fragment::NONE,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        address::Address,
        headers::ethertype,
        parse::{self, Malformed, Sink},
    };

    /// What the parser found, as text that shows every field.
    struct Seen;
    impl Sink for Seen {
        type Output = String;
        fn ip<A: Address>(self, packet: &Packet<A>) -> String {
            let Packet { protocol, port, source_port, destination_port, tcp_flags, stands, fragment, .. } = packet;
            let (source, destination) = (packet.source.words(), packet.destination.words());
            std::format!(
                "{source:x?} {destination:x?} {protocol} {port:x} {source_port} {destination_port} {tcp_flags:x} {stands:x} {fragment:?}"
            )
        }
        fn non_ip(self, kind: u16) -> String {
            std::format!("EtherType {kind:x}")
        }
        fn malformed(self, reason: Malformed) -> String {
            std::format!("{reason:?}")
        }
    }

    /// Packets that are nearly usual: right but for a few bits.
    fn packet() -> impl Strategy<Value = (u16, Vec<u8>)> {
        let kinds = [ethertype::IPV4, ethertype::IPV6];
        let kinds = [kinds, kinds, kinds, [ethertype::ARP, ethertype::VLAN]].concat();
        let kind = prop::sample::select(kinds);
        let protocol = prop::sample::select(vec![6, 6, 17, 17, 1, 132]);
        let damage = prop::collection::vec((0..60_usize, 0..8_u8), 0..3);
        (kind, protocol, prop::collection::vec(any::<u8>(), 0..60), damage, 0..6_usize).prop_map(
            |(kind, protocol, mut payload, damage, padding)| {
                payload.splice(0..0, [0; 20]);
                let length = payload.len() as u16;
                match protocol {
                    6 => payload[12] = 0x50,
                    17 => payload[4..6].copy_from_slice(&length.to_be_bytes()),
                    _ => {}
                }
                let mut packet = if kind != ethertype::IPV6 {
                    let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 1, 0, 2, 17, 1, 2, 3];
                    header[2..4].copy_from_slice(&(length + 20).to_be_bytes());
                    header.to_vec()
                } else {
                    let mut header = [7; 40];
                    header[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol, 64]);
                    header[4..6].copy_from_slice(&length.to_be_bytes());
                    header.to_vec()
                };
                packet.extend(payload);
                packet.extend(std::iter::repeat_n(0, padding));
                let size = packet.len();
                damage.into_iter().for_each(|(at, bit)| packet[at % size] ^= 1 << bit);
                (kind, packet)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn the_short_way_finds_what_the_whole_parser_finds(
            (kind, packet) in packet(), cut in prop_oneof![4 => Just(0), 1 => 0..50_usize],
        ) {
            let packet = &packet[..packet.len().saturating_sub(cut)];
            let frame = &[&[0; 12], &kind.to_be_bytes()[..], packet].concat()[..];
            let found = ipv4(&frame).map(|packet| Seen.ip(&packet)).or_else(|| ipv6(&frame).map(|packet| Seen.ip(&packet)));
            if let Some(found) = found {
                prop_assert_eq!(found, parse::ethernet(&frame, Seen));
            }
        }
    }

    #[test]
    fn usual_packets_take_it() {
        let mut tcp = [0; 54];
        (tcp[12], tcp[14], tcp[17], tcp[23], tcp[46]) = (8, 0x45, 40, 6, 0x50);
        assert!(ipv4(&&tcp[..]).is_some());
        let mut udp = [0; 74];
        (udp[12], udp[13], udp[14], udp[19], udp[20], udp[59]) = (0x86, 0xdd, 0x60, 20, 17, 20);
        assert!(ipv6(&&udp[..]).is_some());
    }
}
