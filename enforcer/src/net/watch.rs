//! Facts from netlink, again whenever something changed.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder,
    packet_core::NetlinkPayload,
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage, AddressProtocol},
        link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp},
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
    },
};
use tokio::{sync::watch, time};

use super::facts::{Address, Facts, Interface, Route};

/// Changes come in bursts (an address brings routes along); they are read together after this silence,
const SILENCE: Duration = Duration::from_millis(200);
/// but no later than this: where routes flap all the time there is no silence.
const PATIENCE: Duration = Duration::from_secs(2);
/// Read again even if nothing was heard: a socket that overflowed has lost messages.
const RESYNC: Duration = Duration::from_secs(60);

/// Longer than a dump takes of the largest routing table.
const DUMP: Duration = Duration::from_secs(30);

/// Reads the facts of this network namespace once, over a socket of its own: among notifications, an answer could be mistaken.
///
/// # Errors
/// If netlink refuses, or does not answer.
pub async fn read() -> Result<Facts, rtnetlink::Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| io(&error))?;
    let connection = tokio::spawn(connection);
    let facts = time::timeout(DUMP, dump(&handle)).await;
    connection.abort();
    facts.unwrap_or_else(|_| Err(io(&std::io::ErrorKind::TimedOut.into())))
}

/// The facts, and when they were heard to have changed.
#[derive(Clone, Debug)]
pub struct Told {
    /// As they are now.
    pub facts: Facts,
    /// When the first word of the change came.
    pub since: Instant,
}

/// Keeps the facts current in the channel; a link that has come or gone is told of at once. Ends when nobody listens any more, or when the socket for notifications is gone and a new one is needed.
///
/// # Errors
/// If netlink refuses at the start. Facts that cannot be read later are told, and read again at the next change or after a minute.
pub fn follow(current: &watch::Sender<Told>) -> Result<impl Future<Output = ()>, rtnetlink::Error> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&groups).map_err(|error| io(&error))?;
    Ok(async move {
        let connection = tokio::spawn(connection);
        let mut since = Instant::now();
        loop {
            read_to(current, since).await;
            let heard = tokio::select! {
                () = current.closed() => break,
                heard = time::timeout(RESYNC, messages.next()) => heard,
            };
            since = Instant::now();
            match heard {
                Ok(None) => break,
                Ok(Some((message, _))) if is_link(&message.payload) => read_to(current, since).await,
                _ => {}
            }
            let burst = async {
                while let Ok(Some((message, _))) = time::timeout(SILENCE, messages.next()).await {
                    if matches!(message.payload, NetlinkPayload::Overrun(_)) {
                        break;
                    }
                }
            };
            // Cut short or not, the facts are read anew.
            let _ = time::timeout(PATIENCE, burst).await;
        }
        connection.abort();
    })
}

/// Reads all facts, and tells them if they are others.
async fn read_to(current: &watch::Sender<Told>, since: Instant) {
    match read().await {
        Ok(facts) => {
            current.send_if_modified(|known| {
                let changed = known.facts != facts;
                if changed {
                    *known = Told { facts, since };
                }
                changed
            });
        }
        Err(error) => tracing::error!("cannot read interfaces and routes: {error}"),
    }
}

fn is_link(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    matches!(payload, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_)))
}

fn io(error: &std::io::Error) -> rtnetlink::Error {
    rtnetlink::Error::NamespaceError(error.to_string())
}

async fn dump(handle: &Handle) -> Result<Facts, rtnetlink::Error> {
    let mut interfaces = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let interface = interface(&link);
        interfaces.insert(interface.index, interface);
    }
    let mut found = Vec::new();
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        found.extend(address(&message));
    }
    let (mut routes, mut own) = (Vec::new(), Vec::new());
    for message in [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ] {
        let mut dumped = handle.route().get(message).execute();
        while let Some(message) = dumped.try_next().await? {
            match message.header.kind {
                RouteType::Local | RouteType::Broadcast | RouteType::Anycast => own.extend(destination(&message)),
                _ => routes.extend(hops(&message)),
            }
        }
    }
    Ok(Facts { interfaces: interfaces.into_values().collect(), addresses: found, routes, own })
}

fn interface(link: &LinkMessage) -> Interface {
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

fn address(message: &AddressMessage) -> Option<Address> {
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

/// A main-table unicast route by its next hops; nothing for others, and for default routes.
fn hops(message: &RouteMessage) -> Vec<Route> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut interfaces = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(index) => interfaces.push(*index),
            RouteAttribute::MultiPath(hops) => interfaces.extend(hops.iter().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    let main = table == u32::from(RouteHeader::RT_TABLE_MAIN) && header.kind == RouteType::Unicast;
    match destination(message).filter(|to| main && to.prefix_len() > 0) {
        Some(to) => interfaces.into_iter().map(|interface| Route { to, interface }).collect(),
        None => Vec::new(),
    }
}
