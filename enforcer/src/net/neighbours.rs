//! MACs of addresses, from the gateway's neighbour tables (ARP and NDP).

use std::{
    collections::HashMap,
    future, io,
    net::IpAddr,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
    },
};
use tokio::time;

use super::watch;

/// Interval at which the tables are read even without notifications.
const RESYNC: Duration = Duration::from_secs(60);
/// Pause after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// A link-layer address.
pub type Mac = [u8; 6];

/// An interface's index, and an address there.
type Key = (u32, IpAddr);

/// The gateway's neighbours by interface and address.
#[derive(Default)]
pub struct Neighbours(RwLock<HashMap<Key, Mac>>);

impl Neighbours {
    /// Returns the MAC of an address behind an interface, if the kernel has resolved it.
    pub fn mac(&self, interface: u32, address: IpAddr) -> Option<Mac> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&(interface, address)).copied()
    }

    /// Follows the kernel's tables until it is dropped.
    pub async fn follow(&self) {
        loop {
            if let Err(error) = self.follow_socket().await {
                tracing::warn!("cannot follow the neighbour tables: {error}");
            }
            time::sleep(PAUSE).await;
        }
    }

    async fn follow_socket(&self) -> Result<(), rtnetlink::Error> {
        let (connection, _, mut messages) =
            rtnetlink::new_multicast_connection(&[MulticastGroup::Neigh]).map_err(|error| watch::io(&error))?;
        let following = async {
            loop {
                self.read().await?;
                let until = time::Instant::now() + RESYNC;
                while let Ok(message) = time::timeout_at(until, messages.next()).await {
                    let Some((message, _)) = message else { return Ok::<(), rtnetlink::Error>(()) };
                    if let NetlinkPayload::Overrun(_) = message.payload {
                        break;
                    }
                    self.apply(&message.payload);
                }
            }
        };
        tokio::select! {
            () = connection => Ok(()),
            end = following => end,
        }
    }

    /// Reads the tables by a separate socket, so that notifications are not taken for its answers.
    async fn read(&self) -> Result<(), rtnetlink::Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| watch::io(&error))?;
        let dumped = handle.neighbours().get().execute();
        let dumped = dumped.try_filter_map(|message| future::ready(Ok(resolved(&message))));
        let known: HashMap<Key, Mac> = tokio::select! {
            known = dumped.try_collect() => known?,
            () = connection => return Err(watch::io(&io::ErrorKind::UnexpectedEof.into())),
        };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    fn apply(&self, payload: &NetlinkPayload<RouteNetlinkMessage>) {
        let (message, mac) = match payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => (message, mac(message)),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => (message, None),
            _ => return,
        };
        let Some(key) = key(message) else { return };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match mac {
            Some(mac) => known.insert(key, mac),
            None => known.remove(&key),
        };
    }
}

fn resolved(message: &NeighbourMessage) -> Option<(Key, Mac)> {
    Some((key(message)?, mac(message)?))
}

/// Returns the key of an entry. Entries of a bridge's MAC table use the same messages, and have none.
fn key(message: &NeighbourMessage) -> Option<Key> {
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    Some((message.header.ifindex, address?))
}

/// Returns the MAC of an entry. An unresolved entry has none; a device without link-layer addresses has zeros.
fn mac(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => Mac::try_from(mac.as_slice()).ok().filter(|mac| *mac != [0; 6]),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(family: AddressFamily, address: [u8; 4], mac: &[u8]) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        (message.header.family, message.header.ifindex) = (family, 2);
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address.into())));
        if !mac.is_empty() {
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        }
        message
    }

    #[test]
    fn resolved_neighbours_are_known_until_they_are_lost() {
        const MAC: Mac = [2, 0, 0, 0, 0, 1];
        let neighbours = Neighbours::default();
        let new = |family, mac: &[u8]| {
            let message = RouteNetlinkMessage::NewNeighbour(entry(family, [10, 1, 0, 2], mac));
            neighbours.apply(&NetlinkPayload::InnerMessage(message));
            neighbours.mac(2, [10, 1, 0, 2].into())
        };
        assert_eq!(new(AddressFamily::Inet, &[]), None, "it is being resolved");
        assert_eq!(new(AddressFamily::Inet, &[0; 6]), None, "it has no address");
        assert_eq!(new(AddressFamily::Bridge, &MAC), None, "a bridge has it");
        assert_eq!(new(AddressFamily::Inet, &MAC), Some(MAC));
        assert_eq!(neighbours.mac(3, [10, 1, 0, 2].into()), None, "another interface");
        assert_eq!(new(AddressFamily::Inet, &[]), None, "it does not answer any more");
        assert_eq!(new(AddressFamily::Inet, &MAC), Some(MAC));
        let gone = RouteNetlinkMessage::DelNeighbour(entry(AddressFamily::Inet, [10, 1, 0, 2], &MAC));
        neighbours.apply(&NetlinkPayload::InnerMessage(gone));
        assert_eq!(neighbours.mac(2, [10, 1, 0, 2].into()), None);
    }
}
