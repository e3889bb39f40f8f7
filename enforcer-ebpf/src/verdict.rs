//! The way from a frame to its verdict.

use core::hint;

use crate::{
    abi::{
        ADMITTED, Action, FlowKey, FragmentHead, FragmentKey, INTERFACES, Net, PolicyId, Role, Verdict, ZONES,
        is_in_run, place, pseudo, slot,
    },
    address::Address,
    bounded::bounded,
    headers::{ethertype, protocol},
    maps::{self, Maps},
    parse::{self, Malformed, Packet, Sink},
};

/// A defect of the tables: dropped and counted, never passed.
pub const FAULT: Verdict = Verdict::new(Action::Drop, pseudo::FAULT);

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client behind the gateway, by the LAN's zone.
    Lan(u8),
    /// The gateway itself.
    Router,
}

/// Judges whatever the parser finds.
pub struct Judge<'a, M> {
    /// Tables and state.
    pub maps: &'a M,
    /// What is known of the network.
    pub net: &'a Net,
    /// Where the frame was seen.
    pub origin: Origin,
    /// That the source is known to belong where it came from ([`is_plain_source`]); else the trie is asked.
    pub believed: bool,
    /// That the portal has admitted the sender, unless the tables know by themselves.
    pub admitted: bool,
    /// Whether to look for the connection from outside that a denied packet may be a reply to; if not, the caller does ([`is_reply`]), who may of whole packets alone: a head that is denied here is not remembered.
    pub replies: bool,
}

impl<M: Maps> Sink for Judge<'_, M> {
    type Output = Verdict;

    #[inline(always)]
    fn ip<A: Address>(self, packet: &Packet<A>) -> Verdict {
        ip(&self, packet).unwrap_or(FAULT)
    }

    #[inline(always)]
    fn non_ip(self, kind: u16) -> Verdict {
        if keeps_lan_alive(kind) {
            Verdict::new(Action::Allow, pseudo::NON_IP_EXEMPT)
        } else {
            word(self.net, pseudo::NON_IP)
        }
    }

    #[inline(always)]
    fn malformed(self, reason: Malformed) -> Verdict {
        // These would go another way than to the destination that a rule could judge: no word of the policy opens them.
        let rule = if reason == Malformed::SourceRoute { pseudo::SOURCE_ROUTE } else { pseudo::MALFORMED };
        word(self.net, rule)
    }
}

/// The policy's word on what no rule names.
#[inline(always)]
pub fn word(net: &Net, rule: u32) -> Verdict {
    Verdict(maps::cell(&net.pseudo[rule as usize & 15]))
}

/// ARP, and the link-layer protocols without which switches and 802.1X cut a port off.
#[inline(always)]
fn keeps_lan_alive(kind: u16) -> bool {
    kind < ethertype::FIRST || matches!(kind, ethertype::ARP | ethertype::SLOW | ethertype::EAPOL | ethertype::LLDP)
}

#[inline(always)]
fn ip<A: Address>(judge: &Judge<'_, impl Maps>, packet: &Packet<A>) -> Option<Verdict> {
    let &Judge { maps, net, origin, believed, admitted, replies } = judge;
    let destination = destination_place(maps, net, packet)?;
    if let Origin::Lan(zone) = origin
        && !believed
        && maps::cell(&net.strict_sources) != 0
        && !source_belongs(maps, net, packet, zone, destination)?
    {
        return Some(word(net, pseudo::SOURCE));
    }
    if destination != 0 && is_exempt(destination, packet) {
        return Some(Verdict::new(Action::Allow, pseudo::LOCAL));
    }
    let policy = match origin {
        Origin::Lan(_) => PolicyId::Lan,
        // The gateway answers a neighbour at whatever address it asked from; from a client this would be a way out.
        Origin::Router if parse::is_neighbour_discovery(packet.port) => {
            return Some(Verdict::new(Action::Allow, pseudo::LOCAL));
        }
        Origin::Router => PolicyId::Router,
    };
    if packet.fragment.is_later() {
        return Some(later_fragment(maps, net, packet));
    }
    let port = packet.port | packet.stands | if admitted { ADMITTED } else { 0 };
    let mut verdict = A::judge(maps, policy, packet.source, packet.destination, port)?;
    if replies && verdict.action() != Action::Allow && is_reply(maps, net, packet) {
        verdict = REPLY;
    }
    if packet.fragment.is_part() && verdict.action().passes() {
        let head = FragmentHead { verdict, end: packet.fragment.end, generation: maps::cell(&net.generation) };
        maps.remember_fragment(&fragment_key(packet), &head);
    }
    Some(verdict)
}

/// Whether the policy has a portal: its word is another than to let pass unseen.
#[inline(always)]
#[must_use]
pub fn has_portal(net: &Net) -> bool {
    !word(net, pseudo::UNADMITTED).passes_unseen()
}

/// The connection whose replies may pass, if the inbound policy allows this packet from outside. An
/// ICMP error belongs to a connection and opens none: all other ICMP to its sender would pass as a
/// reply.
#[inline(always)]
pub fn inbound<A: Address>(maps: &impl Maps, packet: &Packet<A>) -> Option<FlowKey> {
    if packet.fragment.is_later() || parse::is_icmp_error(packet.port) {
        return None;
    }
    let verdict = A::judge(maps, PolicyId::Inbound, packet.source, packet.destination, packet.port)?;
    (verdict.action() == Action::Allow).then(|| FlowKey {
        inside: packet.destination.words(),
        outside: packet.source.words(),
        inside_port: packet.destination_port,
        outside_port: packet.source_port,
        protocol: u32::from(packet.protocol),
    })
}

/// What a reply to a connection from outside becomes.
pub const REPLY: Verdict = Verdict::new(Action::Allow, pseudo::REPLY);

/// Whether a packet that the rules deny is a reply to a connection from outside.
#[inline(always)]
pub fn is_reply<A: Address>(maps: &impl Maps, net: &Net, packet: &Packet<A>) -> bool {
    maps::cell(&net.replies) != 0 && maps.reply(&reply_key(packet), packet.tcp_flags)
}

/// The connection from outside that a packet from inside would be a reply of.
#[inline(always)]
fn reply_key<A: Address>(packet: &Packet<A>) -> FlowKey {
    FlowKey {
        inside: packet.source.words(),
        outside: packet.destination.words(),
        inside_port: packet.source_port,
        outside_port: packet.destination_port,
        protocol: u32::from(packet.protocol),
    }
}

/// A later fragment has no ports: it shares its head's fate, unless it would overwrite what was judged.
#[inline(always)]
fn later_fragment<A: Address>(maps: &impl Maps, net: &Net, packet: &Packet<A>) -> Verdict {
    match maps.fragment(&fragment_key(packet)) {
        Some(head) if packet.fragment.start >= head.end => {
            // Counters of another policy are numbered otherwise.
            let current = head.generation == maps::cell(&net.generation);
            if current { head.verdict } else { Verdict::new(Action::Allow, pseudo::EARLIER) }
        }
        _ => word(net, pseudo::FRAGMENT),
    }
}

/// IPv4 reassembles by protocol as well (RFC 791), IPv6 does not (RFC 8200).
#[inline(always)]
fn fragment_key<A: Address>(packet: &Packet<A>) -> FragmentKey {
    let protocol = if A::VERSION == 6 { 6 << 8 } else { 4 << 8 | u32::from(packet.protocol) };
    FragmentKey {
        source: packet.source.words(),
        destination: packet.destination.words(),
        id: packet.fragment.id,
        protocol,
    }
}

/// Whether a packet stays where no rule need name it.
#[inline(always)]
fn is_exempt<A>(destination: u32, packet: &Packet<A>) -> bool {
    // A neighbour on the LAN may be the end of a tunnel; the gateway, at its address or in a group, only where a rule says so.
    let ends_tunnels = destination & place::OWN != 0 || destination & place::ZONE == 0;
    destination & (place::LOCAL | place::OWN) != 0 && !(ends_tunnels && is_tunnel(packet))
}

/// Tunnels that would carry anything through the gateway under the local exemption.
#[inline(always)]
fn is_tunnel<A>(packet: &Packet<A>) -> bool {
    const VXLAN: u32 = slot::UDP << 16 | 4789;
    /// What Linux used before the port was assigned, and still does unless told otherwise.
    const LINUX_VXLAN: u32 = slot::UDP << 16 | 8472;
    const GENEVE: u32 = slot::UDP << 16 | 6081;
    matches!(packet.protocol, protocol::IPIP | protocol::IPV6 | protocol::GRE)
        || matches!(packet.port, VXLAN | LINUX_VXLAN | GENEVE)
}

/// Place of the destination, or 0 if nothing local is near.
#[inline(always)]
pub fn destination_place<A: Address>(maps: &impl Maps, net: &Net, packet: &Packet<A>) -> Option<u32> {
    if !packet.destination.is_near(net) {
        return Some(0);
    }
    packet.destination.place(maps, net, place::BELOW)
}

/// Whether an IPv4 source is one of those of its zone that are known without a search.
// Not asked of all packets: where the whole parser has been, it would multiply what the verifier goes through.
#[inline(always)]
#[must_use]
pub fn is_plain_source(net: &Net, origin: Origin, source: u32) -> bool {
    let Origin::Lan(zone) = origin else { return false };
    is_in_run(maps::cell(&net.sources4[bounded::<{ ZONES - 1 }>(zone.into())]), source)
}

/// Strict reverse path: the routing table leads back to the source by the interface it came from. Link-local and unspecified sources (DHCP,
/// duplicate address detection) are believed only on their way to something local.
#[inline(always)]
fn source_belongs<A: Address>(
    maps: &impl Maps,
    net: &Net,
    packet: &Packet<A>,
    zone: u8,
    destination: u32,
) -> Option<bool> {
    let source = packet.source.place(maps, net, place::ZONES_BELOW)?;
    let zone = u32::from(zone);
    if zone != 0 && source & (place::OWN | place::ZONE) == zone {
        return Some(true);
    }
    hint::cold_path();
    // In the gateway's own name, or a broadcast address's.
    if source & place::OWN != 0 {
        return Some(false);
    }
    let unspecified = packet.source == A::UNSPECIFIED;
    Some((source & place::LINK_LOCAL != 0 || unspecified) && destination & (place::LOCAL | place::OWN) != 0)
}

/// What is known of an interface, but for its address; zeros if nothing is.
#[inline(always)]
#[must_use]
pub fn interface(net: &Net, index: u32) -> Role {
    let role = net.interfaces[index as usize % INTERFACES].role();
    if role.index == index { role } else { Role::default() }
}

/// The LAN that an interface belongs to; 0 if none, or if nothing is known of it.
#[inline(always)]
#[must_use]
pub fn zone(net: &Net, index: u32) -> u8 {
    let role = net.interfaces[index as usize % INTERFACES].role();
    if role.index != index {
        hint::cold_path();
        return 0;
    }
    role.zone
}

/// An interface's link-layer address, in network byte order; zero if it has none or nothing is known of it.
#[inline(always)]
#[must_use]
pub fn mac(net: &Net, index: u32) -> [u16; 3] {
    let cell = &net.interfaces[index as usize % INTERFACES];
    if cell.role.index == index { cell.mac } else { [0; 3] }
}
