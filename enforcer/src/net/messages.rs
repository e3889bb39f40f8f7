//! What netlink's messages say, as facts.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::{
    address::{AddressAttribute, AddressMessage, AddressProtocol},
    link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp},
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteType},
};

use super::facts::{Address, Interface, Route};

/// A link.
pub fn interface(link: &LinkMessage) -> Interface {
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        master: None,
        joins: false,
        layer3: !matches!(link.header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        mac: [0; 6],
        carrier: None,
        xdp: None,
    };
    let (mut below, mut takes_a_part) = (None, false);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Link(index) => below = Some(*index),
            LinkAttribute::Address(mac) => interface.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Controller(master) => interface.master = Some(*master).filter(|&master| master != 0),
            LinkAttribute::Xdp(attributes) => {
                interface.xdp = attributes.iter().find_map(|attribute| match attribute {
                    LinkXdp::ProgId(id) => Some(*id).filter(|&id| id != 0),
                    _ => None,
                });
            }
            LinkAttribute::LinkInfo(infos) => {
                takes_a_part = infos
                    .iter()
                    .any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vlan | InfoKind::MacVlan | InfoKind::IpVlan)));
                interface.joins = infos.iter().any(|info| match info {
                    LinkInfo::Kind(InfoKind::Bridge | InfoKind::Bond) => true,
                    LinkInfo::Kind(InfoKind::Other(kind)) => kind == "team",
                    _ => false,
                });
            }
            _ => {}
        }
    }
    interface.carrier = below.filter(|_| takes_a_part);
    interface
}

/// An address; nothing if the message has none.
pub fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut peer, mut broadcast, mut advertised) = (None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Broadcast(address) => broadcast = Some(IpAddr::V4(*address)),
            AddressAttribute::Protocol(from) => advertised = *from == AddressProtocol::RouterAnnouncement,
            _ => {}
        }
    }
    // On a point-to-point link `Address` is the other end.
    Some(Address {
        interface: message.header.index,
        own: local.or(peer)?,
        net: IpNet::new(peer.or(local)?, message.header.prefix_len).ok()?.trunc(),
        broadcast,
        advertised,
    })
}

/// What a route leads to.
fn destination(message: &RouteMessage) -> Option<IpNet> {
    let to = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    IpNet::new(to, message.header.destination_prefix_length).ok().map(|net| net.trunc())
}

/// The table that a route is in.
fn table(message: &RouteMessage) -> u32 {
    let number = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(number) => Some(*number),
        _ => None,
    });
    number.unwrap_or(message.header.table.into())
}

/// What the gateway takes for itself by a route, whatever packet it is. Other tables than these two are for what rules choose: transparent proxies take
/// the whole internet for theirs there.
pub fn own(message: &RouteMessage) -> Option<IpNet> {
    let for_all = [libc::RT_TABLE_LOCAL, RouteHeader::RT_TABLE_MAIN].map(u32::from);
    destination(message).filter(|_| for_all.contains(&table(message)))
}

/// A main-table route by its next hops that are alive, or as one that leads nowhere; nothing for others: default routes, those for some packets alone (by
/// type of service or source), and what the kernel has noted of single destinations on their way.
pub fn hops(message: &RouteMessage) -> Vec<Route> {
    let header = &message.header;
    let (mut metric, mut interfaces) = (0, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Oif(index) if !header.flags.contains(RouteFlags::Dead) => interfaces.push(Some(*index)),
            RouteAttribute::MultiPath(hops) => {
                let alive = hops.iter().filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead));
                interfaces.extend(alive.map(|hop| Some(hop.interface_index)));
            }
            _ => {}
        }
    }
    match header.kind {
        RouteType::Unicast => {}
        // IPv6 names loopback as their interface.
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => {
            interfaces = vec![None];
        }
        _ => return Vec::new(),
    }
    let is_for_all = header.tos == 0 && header.source_prefix_length == 0 && !header.flags.contains(RouteFlags::Cloned);
    let is_main = table(message) == u32::from(RouteHeader::RT_TABLE_MAIN);
    match destination(message).filter(|to| is_main && is_for_all && to.prefix_len() > 0) {
        Some(to) => interfaces.into_iter().map(|interface| Route { to, interface, metric }).collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    /// To 10.7.0.0/16 of the main table.
    fn route(more: &[RouteAttribute]) -> RouteMessage {
        let mut route = RouteMessage::default();
        (route.header.kind, route.header.table) = (RouteType::Unicast, RouteHeader::RT_TABLE_MAIN);
        route.header.destination_prefix_length = 16;
        let to = RouteAttribute::Destination(RouteAddress::Inet([10, 7, 0, 0].into()));
        route.attributes = [&[to], more].concat();
        route
    }

    fn hop(index: u32, flags: RouteNextHopFlags) -> RouteNextHop {
        let mut hop = RouteNextHop::default();
        (hop.interface_index, hop.flags) = (index, flags);
        hop
    }

    #[test]
    fn a_route_counts_by_its_live_next_hops_and_metric() {
        let led = |route: &RouteMessage| -> Vec<_> {
            hops(route).iter().map(|route| (route.interface, route.metric)).collect()
        };
        let by_wan = route(&[RouteAttribute::Oif(3), RouteAttribute::Priority(100)]);
        assert_eq!(led(&by_wan), [(Some(3), 100)]);
        assert_eq!(led(&route(&[RouteAttribute::Oif(3)])), [(Some(3), 0)]);
        let several =
            [hop(2, RouteNextHopFlags::empty()), hop(3, RouteNextHopFlags::Dead), hop(4, RouteNextHopFlags::empty())];
        assert_eq!(led(&route(&[RouteAttribute::MultiPath(several.to_vec())])), [(Some(2), 0), (Some(4), 0)]);
        let mut dead = by_wan.clone();
        dead.header.flags = RouteFlags::Dead;
        assert_eq!(led(&dead), []);
        for nowhere in [RouteType::BlackHole, RouteType::Unreachable, RouteType::Prohibit, RouteType::Throw] {
            let mut route = by_wan.clone();
            route.header.kind = nowhere;
            assert_eq!(led(&route), [(None, 100)]);
        }
    }

    #[test]
    fn only_tables_that_all_packets_meet_say_what_is_the_gateways_own() {
        let is_own = |table| {
            let mut route = route(&[RouteAttribute::Table(table)]);
            route.header.kind = RouteType::Local;
            own(&route).is_some()
        };
        assert_eq!([255, 254, 253, 100, 1000].map(is_own), [true, true, false, false, false]);
    }

    #[test]
    fn routes_that_are_not_for_all_packets_do_not_count() {
        let changes: [fn(&mut RouteMessage); 6] = [
            |route| route.header.tos = 0x10,
            |route| route.header.source_prefix_length = 8,
            |route| route.header.flags = RouteFlags::Cloned,
            |route| route.header.destination_prefix_length = 0,
            |route| route.header.kind = RouteType::Local,
            |route| route.attributes.push(RouteAttribute::Table(1000)),
        ];
        for change in changes {
            let mut route = route(&[RouteAttribute::Oif(3)]);
            assert_eq!(hops(&route).len(), 1);
            change(&mut route);
            assert_eq!(hops(&route), []);
        }
    }
}
