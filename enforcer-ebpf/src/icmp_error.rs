//! ICMP errors that belong to a connection (RFC 1122, 3.2.2): what they quote is the packet that they are about, on its way to their sender.

use crate::{
    abi::{FlowKey, PolicyId, STANDS, Words6, slot},
    address::Address,
    bytes::Bytes,
    headers::{Icmp, Ipv4, Ipv6, Ports, protocol},
    maps::Maps,
    verdict::Origin,
};

/// The connection that an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<A> {
    /// The error's sender says that the packet was for this address.
    inside: A,
    /// Who sent the packet, and gets the error.
    outside: A,
    protocol: u8,
    inside_port: u16,
    outside_port: u16,
    /// Whether the error comes from the address that the packet was for.
    from_inside: bool,
}

/// What an IPv4 error quotes; nothing for other packets, and for errors that do not go to the quoted packet's sender.
#[inline(always)]
pub fn ipv4(frame: &impl Bytes, offset: usize) -> Option<Quoted<u32>> {
    let outer = frame.read::<Ipv4>(offset)?;
    let header_length = usize::from(outer.version_length & 0xf) * 4;
    if outer.protocol != protocol::ICMP || outer.fragment & 0x3fff_u16.to_be() != 0 || header_length < 20 {
        return None;
    }
    // Unreachable (path-MTU discovery is one of them), time exceeded, parameter problem.
    if !matches!(frame.read::<Icmp>(offset + header_length)?.kind, 3 | 11 | 12) {
        return None;
    }
    let at = offset + header_length + size_of::<Icmp>();
    let inner = frame.read::<Ipv4>(at)?;
    let inner_length = usize::from(inner.version_length & 0xf) * 4;
    if inner.version_length >> 4 != 4 || inner_length < 20 || inner.fragment & 0x1fff_u16.to_be() != 0 {
        return None;
    }
    let ports = frame.read::<Ports>(at + inner_length)?;
    quoted(
        u32::from_be(outer.source),
        u32::from_be(outer.destination),
        inner.protocol,
        ports,
        [u32::from_be(inner.source), u32::from_be(inner.destination)],
    )
}

/// What an ICMPv6 error quotes, if both packets' transport headers follow right behind their own.
#[inline(always)]
pub fn ipv6(frame: &impl Bytes, offset: usize) -> Option<Quoted<Words6>> {
    let outer = frame.read::<Ipv6>(offset)?;
    let at = offset + size_of::<Ipv6>();
    if outer.next != protocol::ICMPV6 || !matches!(frame.read::<Icmp>(at)?.kind, 1..=4) {
        return None;
    }
    let at = at + size_of::<Icmp>();
    let inner = frame.read::<Ipv6>(at)?;
    if u32::from_be(inner.version) >> 28 != 6 {
        return None;
    }
    let ports = frame.read::<Ports>(at + size_of::<Ipv6>())?;
    let words = |address: [u32; 4]| address.map(u32::from_be);
    quoted(
        words(outer.source),
        words(outer.destination),
        inner.next,
        ports,
        [words(inner.source), words(inner.destination)],
    )
}

#[inline(always)]
fn quoted<A: Address>(
    source: A,
    destination: A,
    protocol: u8,
    ports: Ports,
    [outside, inside]: [A; 2],
) -> Option<Quoted<A>> {
    let (outside_port, inside_port) = (u16::from_be(ports.source), u16::from_be(ports.destination));
    (outside == destination).then_some(Quoted {
        inside,
        outside,
        protocol,
        inside_port,
        outside_port,
        from_inside: inside == source,
    })
}

impl<A: Address> Quoted<A> {
    /// Whether the error may pass: the gateway's own always, a client's if the connection it quotes is its own and one that may be.
    #[inline(always)]
    pub fn may_pass(&self, maps: &impl Maps, origin: Origin) -> bool {
        if origin == Origin::Router {
            return true;
        }
        let slot = match self.protocol {
            protocol::TCP => slot::TCP,
            protocol::UDP => slot::UDP,
            protocol::SCTP => slot::SCTP,
            protocol::UDPLITE => slot::UDPLITE,
            _ => return false,
        };
        if !self.from_inside {
            return false;
        }
        // Of a connection that stands: the error about it is as welcome as its packets.
        let port = STANDS | slot << 16 | u32::from(self.outside_port);
        let key = FlowKey {
            inside: self.inside.words(),
            outside: self.outside.words(),
            inside_port: self.inside_port,
            outside_port: self.outside_port,
            protocol: u32::from(self.protocol),
        };
        let verdict = A::judge(maps, PolicyId::Lan, self.inside, self.outside, port);
        verdict.is_some_and(|verdict| verdict.action().passes()) || maps.reply(&key, 0)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4};

    use super::*;

    const CLIENT: [u8; 4] = [10, 1, 0, 2];
    const SERVER: [u8; 4] = [17, 1, 2, 3];

    /// An error from an address to one, about a UDP packet between two others.
    fn error4(from: [u8; 4], to: [u8; 4], inner: [[u8; 4]; 2]) -> Vec<u8> {
        let (mut quoted, mut packet) = (Vec::new(), Vec::new());
        PacketBuilder::ipv4(inner[0], inner[1], 64).udp(123, 5555).write(&mut quoted, b"x").expect("to memory");
        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
        PacketBuilder::ipv4(from, to, 64).icmpv4(kind).write(&mut packet, &quoted).expect("to memory");
        packet
    }

    #[test]
    fn an_error_quotes_the_connection_seen_from_inside() {
        let quoted = ipv4(&&error4(CLIENT, SERVER, [SERVER, CLIENT])[..], 0).expect("an error");
        let (inside, outside) = (u32::from_be_bytes(CLIENT), u32::from_be_bytes(SERVER));
        let (protocol, inside_port, outside_port) = (17, 5555, 123);
        assert_eq!(quoted, Quoted { inside, outside, protocol, inside_port, outside_port, from_inside: true });
        let (mut inner, mut packet) = (Vec::new(), Vec::new());
        PacketBuilder::ipv6([0x26; 16], [0xfd; 16], 64).tcp(443, 5555, 1, 1).write(&mut inner, &[]).expect("to memory");
        let kind = Icmpv6Type::PacketTooBig { mtu: 1280 };
        PacketBuilder::ipv6([0xfd; 16], [0x26; 16], 64).icmpv6(kind).write(&mut packet, &inner).expect("to memory");
        let quoted = ipv6(&&packet[..], 0).expect("an error");
        assert_eq!(
            (quoted.protocol, quoted.inside_port, quoted.outside_port, quoted.from_inside),
            (6, 5555, 443, true)
        );
    }

    #[test]
    fn an_error_to_somebody_else_or_in_somebody_elses_name_is_told_apart() {
        let other = [10, 1, 0, 9];
        assert_eq!(ipv4(&&error4(CLIENT, [203, 0, 113, 9], [SERVER, CLIENT])[..], 0), None);
        assert!(!ipv4(&&error4(other, SERVER, [SERVER, CLIENT])[..], 0).expect("an error").from_inside);
    }

    #[test]
    fn what_is_no_whole_error_quotes_nothing() {
        let packet = error4(CLIENT, SERVER, [SERVER, CLIENT]);
        for length in 0..20 + 8 + 20 + 4 {
            assert_eq!(ipv4(&&packet[..length], 0), None, "{length} bytes");
        }
        for (at, bits) in [(6, 0x20), (20, 3 ^ 8), (28, 0x20), (28 + 7, 1)] {
            let mut changed = packet.clone();
            changed[at] ^= bits;
            assert_eq!(ipv4(&&changed[..], 0), None, "byte {at}");
        }
    }
}
