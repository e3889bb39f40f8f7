//! The way from a frame to its verdict.

use crate::{
    abi::{Action, FlowKey, FragmentHead, FragmentKey, Net, PolicyId, ROW_UNIT, Verdict, Words6, place, pseudo, slot},
    bytes::Bytes,
    classify,
    headers::{ethertype, protocol},
    maps::{self, Maps},
    parse::{Fragment, Packet, Parsed},
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

/// The complete verdict on a parsed frame: local traffic, sources, fragments, rules, replies.
#[inline(always)]
pub fn verdict(maps: &impl Maps, origin: Origin, parsed: &Parsed) -> Verdict {
    let Some(net) = maps.net() else { return FAULT };
    match parsed {
        Parsed::Ip(packet) => ip(maps, net, origin, packet).unwrap_or(FAULT),
        Parsed::NonIp(kind) if keeps_lan_alive(*kind) => Verdict::new(Action::Allow, pseudo::NON_IP_EXEMPT),
        Parsed::NonIp(_) => word(net, pseudo::NON_IP),
        Parsed::Malformed(_) => word(net, pseudo::MALFORMED),
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
fn ip(maps: &impl Maps, net: &Net, origin: Origin, packet: &Packet) -> Option<Verdict> {
    let destination = destination_place(maps, packet)?;
    if let Origin::Lan(zone) = origin
        && maps::cell(&net.strict_sources) != 0
        && !source_belongs(maps, net, packet, zone, destination)?
    {
        return Some(word(net, pseudo::SOURCE));
    }
    if destination & (place::LOCAL | place::OWN) != 0 && !(destination & place::OWN != 0 && is_tunnel(packet)) {
        return Some(Verdict::new(Action::Allow, pseudo::LOCAL));
    }
    let policy = match origin {
        Origin::Lan(_) => PolicyId::Lan,
        Origin::Router => PolicyId::Router,
    };
    if let Some(part) = packet.fragment
        && part.start > 0
    {
        return Some(later_fragment(maps, net, packet, part));
    }
    let mut verdict = judge(maps, policy, packet)?;
    if verdict.action() != Action::Allow && maps::cell(&net.replies) != 0 && maps.reply(&flow_key(packet)) {
        verdict = Verdict::new(Action::Allow, pseudo::REPLY);
    }
    if let Some(part) = packet.fragment
        && verdict.action() == Action::Allow
    {
        maps.remember_fragment(&fragment_key(packet, part.id), &FragmentHead { verdict, end: part.end });
    }
    Some(verdict)
}

/// What one policy's rules say: destination, source and port classes, then two class tables.
#[inline(always)]
pub fn judge(maps: &impl Maps, policy: PolicyId, packet: &Packet) -> Option<Verdict> {
    let root = maps.root(policy)?;
    let layout = &root.layout;
    let class = classify::destination(maps, policy, root, &packet.destination, packet.v6)?;
    let source = if maps::cell(&layout.source_classes) > 1 {
        classify::source(maps, policy, root, &packet.source, packet.v6)?
    } else {
        0
    };
    let row = maps::cell(&layout.rows) + class * ROW_UNIT;
    let pattern = maps::word(maps, row)?;
    let group = maps::word(maps, maps::cell(&layout.groups) + pattern * maps::cell(&layout.source_classes) + source)?;
    let port = classify::port(root, packet.slot, packet.selector);
    let column = maps::word(maps, maps::cell(&layout.columns) + group * maps::cell(&layout.port_classes) + port)?;
    Some(Verdict(maps::word(maps, row + 1 + column)?))
}

/// The connection whose replies may pass, if the inbound policy allows this packet from outside.
#[inline(always)]
pub fn inbound(maps: &impl Maps, packet: &Packet) -> Option<FlowKey> {
    if packet.fragment.is_some_and(|part| part.start > 0) {
        return None;
    }
    let allowed = judge(maps, PolicyId::Inbound, packet)?.action() == Action::Allow;
    allowed.then_some(FlowKey {
        inside: packet.destination,
        outside: packet.source,
        inside_port: packet.destination_port,
        outside_port: packet.source_port,
        protocol: u32::from(packet.protocol),
    })
}

/// The flow that a packet from inside would be a reply of.
#[inline(always)]
fn flow_key(packet: &Packet) -> FlowKey {
    FlowKey {
        inside: packet.source,
        outside: packet.destination,
        inside_port: packet.source_port,
        outside_port: packet.destination_port,
        protocol: u32::from(packet.protocol),
    }
}

/// A later fragment has no ports: it shares its head's fate, unless it would overwrite what was judged.
#[inline(always)]
fn later_fragment(maps: &impl Maps, net: &Net, packet: &Packet, part: Fragment) -> Verdict {
    match maps.fragment(&fragment_key(packet, part.id)) {
        Some(head) if part.start >= head.end => head.verdict,
        _ => word(net, pseudo::FRAGMENT),
    }
}

/// IPv4 reassembles by protocol as well (RFC 791), IPv6 does not (RFC 8200).
#[inline(always)]
fn fragment_key(packet: &Packet, id: u32) -> FragmentKey {
    let protocol = if packet.v6 { 6 << 8 } else { 4 << 8 | u32::from(packet.protocol) };
    FragmentKey { source: packet.source, destination: packet.destination, id, protocol }
}

/// Tunnels that would carry anything through the gateway under the local exemption.
#[inline(always)]
fn is_tunnel(packet: &Packet) -> bool {
    // VXLAN: the assigned port and Linux's own.
    matches!(packet.protocol, protocol::IPIP | protocol::IPV6 | protocol::GRE)
        || (packet.slot == slot::UDP && matches!(packet.selector, 4789 | 8472))
}

/// Place of the destination, or 0 if nothing local shares its upper 16 bits: one bit is asked first, as most are not.
#[inline(always)]
pub fn destination_place(maps: &impl Maps, packet: &Packet) -> Option<u32> {
    let net = maps.net()?;
    let address = &packet.destination;
    let (bits, index) = if packet.v6 { (&net.local6, address[0] >> 16) } else { (&net.local4, address[3] >> 16) };
    if maps::cell(&bits[index as usize >> 5]) >> (index & 31) & 1 == 0 {
        return Some(0);
    }
    place_of(maps, net, address, packet.v6, place::BELOW)
}

/// What is known of an address; `below` says which longer prefixes matter.
#[inline(always)]
fn place_of(maps: &impl Maps, net: &Net, address: &Words6, v6: bool, below: u32) -> Option<u32> {
    if v6 {
        let root = maps::cell(&net.place6[(address[0] >> 16) as usize]);
        let found = classify::walk6(root, address, |index| maps.net_block(index))?;
        Some(if found & below != 0 { maps.place6(address).unwrap_or(found) } else { found })
    } else {
        let root = maps::cell(&net.place4[(address[3] >> 16) as usize]);
        classify::walk4(root, address[3], |index| maps.net_block(index))
    }
}

/// Strict reverse path: the routing table leads back to the source by the interface it came from. Link-local and unspecified sources (DHCP,
/// duplicate address detection) are believed only on their way to something local.
#[inline(always)]
fn source_belongs(maps: &impl Maps, net: &Net, packet: &Packet, zone: u8, destination: u32) -> Option<bool> {
    let source = place_of(maps, net, &packet.source, packet.v6, place::ZONES_BELOW)?;
    if source & place::ZONE == u32::from(zone) && zone != 0 {
        return Some(true);
    }
    let unspecified = packet.source == [0; 4];
    Some((source & place::LINK_LOCAL != 0 || unspecified) && destination & (place::LOCAL | place::OWN) != 0)
}

/// Parses and judges a frame of a client, from its link-layer header on.
#[inline(always)]
pub fn lan_frame(maps: &impl Maps, frame: &impl Bytes, zone: u8) -> Verdict {
    verdict(maps, Origin::Lan(zone), &crate::parse::ethernet(frame))
}
