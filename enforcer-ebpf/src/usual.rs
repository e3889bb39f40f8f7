//! The short way for what nearly every packet is: TCP or UDP in one piece, without options or extension headers. Its bounds are checked once and its
//! fields read where they must lie.

use crate::{
    abi::{Words6, slot},
    bytes::Bytes,
    headers::{Ipv4, Ipv6, Start, Transports, protocol},
    parse::{Fragment, Packet, quic_stands, tcp_stands},
};

/// A usual IPv4 packet from its network header on; nothing if it is not one or malformed: [`crate::parse::network`] finds out which.
#[inline(always)]
pub fn ipv4(frame: &impl Bytes, offset: usize) -> Option<Packet<u32>> {
    let (header, start) = frame.read::<Start<Ipv4>>(offset)?.parts();
    let length = usize::from(u16::from_be(header.total_length));
    if header.version_length != 0x45 || header.fragment & 0x3fff_u16.to_be() != 0 || offset + length > frame.size() {
        return None;
    }
    let port = start.port(header.protocol, length.checked_sub(size_of::<Ipv4>())?)?;
    Some(start.packet(u32::from_be(header.source), u32::from_be(header.destination), header.protocol, port))
}

/// A usual IPv6 packet, likewise.
#[inline(always)]
pub fn ipv6(frame: &impl Bytes, offset: usize) -> Option<Packet<Words6>> {
    let (header, start) = frame.read::<Start<Ipv6>>(offset)?.parts();
    let length = usize::from(u16::from_be(header.payload_length));
    if u32::from_be(header.version) >> 28 != 6 || offset + size_of::<Ipv6>() + length > frame.size() {
        return None;
    }
    let port = start.port(header.next, length)?;
    Some(start.packet(header.source.map(u32::from_be), header.destination.map(u32::from_be), header.next, port))
}

impl Transports {
    /// The port cell, if this is a whole header whose lengths fit `length` bytes of header and payload.
    #[inline(always)]
    fn port(&self, protocol: u8, length: usize) -> Option<u32> {
        let (slot, least, claimed) = match protocol {
            protocol::TCP => (slot::TCP, 20, usize::from(self.tcp_offset >> 4) * 4),
            protocol::UDP => (slot::UDP, 8, usize::from(u16::from_be(self.udp_length))),
            _ => return None,
        };
        (claimed >= least && claimed <= length).then(|| slot << 16 | u32::from(u16::from_be(self.ports.destination)))
    }

    #[inline(always)]
    fn stands(&self, protocol: u8) -> u32 {
        if protocol == protocol::TCP {
            return tcp_stands(self.tcp_flags);
        }
        // A datagram without payload may be padded with anything.
        if u16::from_be(self.udp_length) <= 8 {
            return 0;
        }
        quic_stands(u16::from_be(self.ports.destination), self.udp_payload)
    }

    #[inline(always)]
    fn packet<A>(&self, source: A, destination: A, protocol: u8, port: u32) -> Packet<A> {
        let ports = self.ports;
        Packet {
            source,
            destination,
            protocol,
            port,
            source_port: u16::from_be(ports.source),
            destination_port: u16::from_be(ports.destination),
            tcp_flags: if protocol == protocol::TCP { self.tcp_flags } else { 0 },
            stands: self.stands(protocol),
            fragment: Fragment::NONE,
        }
    }
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
        let kind = prop::sample::select(vec![ethertype::IPV4, ethertype::IPV6]);
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
                let mut packet = if kind == ethertype::IPV4 {
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
            let found = match kind {
                ethertype::IPV4 => ipv4(&packet, 0).map(|packet| Seen.ip(&packet)),
                _ => ipv6(&packet, 0).map(|packet| Seen.ip(&packet)),
            };
            if let Some(found) = found {
                prop_assert_eq!(found, parse::network(&packet, kind, 0, Seen));
            }
        }
    }

    #[test]
    fn usual_packets_take_it() {
        let mut tcp = [0; 40];
        (tcp[0], tcp[3], tcp[9], tcp[32]) = (0x45, 40, 6, 0x50);
        assert!(ipv4(&&tcp[..], 0).is_some());
        let mut udp = [0; 60];
        (udp[0], udp[5], udp[6], udp[45]) = (0x60, 20, 17, 20);
        assert!(ipv6(&&udp[..], 0).is_some());
    }
}
