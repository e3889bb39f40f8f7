//! The kernel's tables of clients that the portal has admitted, which all sets of programs share.

use std::net::IpAddr;

use aya::{
    Ebpf,
    maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use enforcer_ebpf::{
    abi::{ClientKey, LongKey, Words6, kind},
    classify,
};
use ipnet::IpNet;

use super::{
    KernelError,
    take::{Raw, Take},
};
use crate::clients::Client;

const HOSTS: &str = "ADMITTED";
const NETS: &str = "ADMITTED_NETS";

/// The tables. Times are nanoseconds of the kernel's monotonic clock, by which the programs compare them.
pub struct Admitted {
    hosts: HashMap<MapData, Raw<ClientKey>, u64>,
    nets: LpmTrie<MapData, Raw<LongKey>, u64>,
    /// The kernel's numbers of both.
    ids: [Option<u32>; 2],
}

/// Where a client is in the tables.
enum Place {
    Host(ClientKey),
    Net(Key<Raw<LongKey>>),
}

impl Admitted {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, KernelError> {
        let maps = Take(ebpf);
        let (hosts, nets) = (maps.raw(HOSTS)?, maps.raw(NETS)?);
        let ids = [id(&hosts), id(&nets)];
        let hosts = hosts.try_into().map_err(|source| KernelError::Map { name: HOSTS, source })?;
        let nets = nets.try_into().map_err(|source| KernelError::Map { name: NETS, source })?;
        Ok(Self { hosts, nets, ids })
    }

    /// Lets packets of a client pass by the rules until a time, or no longer if there is none.
    ///
    /// # Errors
    /// If the kernel has no memory, or the tables are full.
    pub fn set(&mut self, client: Client, until: Option<u64>) -> Result<(), KernelError> {
        let (name, stored) = match (place(client), until) {
            (Place::Host(key), Some(until)) => (HOSTS, self.hosts.insert(Raw(key), until, 0)),
            (Place::Host(key), None) => (HOSTS, absent(self.hosts.remove(&Raw(key)))),
            (Place::Net(key), Some(until)) => (NETS, self.nets.insert(&key, until, 0)),
            (Place::Net(key), None) => (NETS, absent(self.nets.remove(&key))),
        };
        stored.map_err(|source| KernelError::Map { name, source })
    }

    /// All that are there, ended or not.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn all(&self) -> Result<Vec<(Client, u64)>, KernelError> {
        let of = |name| move |source| KernelError::Map { name, source };
        let mut all = Vec::new();
        for found in &self.hosts {
            let (Raw(key), until) = found.map_err(of(HOSTS))?;
            all.extend(host(&key).map(|client| (client, until)));
        }
        for found in &self.nets {
            let (key, until) = found.map_err(of(NETS))?;
            all.extend(net(key.prefix_len(), &key.data().0).map(|client| (client, until)));
        }
        Ok(all)
    }

    /// Whether these are the same tables as another set's.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.ids == other.ids && self.ids.iter().all(Option::is_some)
    }
}

fn id(map: &Map) -> Option<u32> {
    let (Map::HashMap(data) | Map::LpmTrie(data)) = map else { return None };
    Some(data.info().ok()?.id())
}

/// What is not there need not be removed.
fn absent(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn place(client: Client) -> Place {
    let net = match client {
        Client::Station(mac) => {
            return Place::Host(ClientKey::station(mac.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))));
        }
        Client::Net(net) => net,
    };
    let (kind, words) = match net.addr() {
        IpAddr::V4(address) => (kind::IPV4, [0, 0, 0, u32::from(address)]),
        IpAddr::V6(address) => (kind::IPV6, words6(address.into())),
    };
    if net.prefix_len() == net.max_prefix_len() {
        return Place::Host(ClientKey { kind, address: words });
    }
    // Prefixes are compared from the front.
    let words = if kind == kind::IPV4 { [words[3], 0, 0, 0] } else { words };
    Place::Net(Key::new(32 + u32::from(net.prefix_len()), Raw(classify::long_key(kind, &words))))
}

fn host(key: &ClientKey) -> Option<Client> {
    let [a, b, c, d] = key.address;
    let address: IpAddr = match key.kind {
        kind::IPV4 => std::net::Ipv4Addr::from(d).into(),
        kind::IPV6 => {
            std::net::Ipv6Addr::from([a, b, c, d].iter().fold(0, |bits, word| bits << 32 | u128::from(*word))).into()
        }
        kind::STATION => {
            let mac = u64::from(c) << 32 | u64::from(d);
            return Some(Client::Station(mac.to_be_bytes()[2..].try_into().ok()?));
        }
        _ => return None,
    };
    Some(Client::Net(address.into()))
}

fn net(bits: u32, key: &LongKey) -> Option<Client> {
    let length = u8::try_from(bits.checked_sub(32)?).ok()?;
    let address: IpAddr = match u32::from_be_bytes(key.space) {
        kind::IPV4 => <[u8; 4]>::try_from(&key.address[..4]).ok()?.into(),
        kind::IPV6 => key.address.into(),
        _ => return None,
    };
    Some(Client::Net(IpNet::new(address, length).ok()?))
}

fn words6(bits: u128) -> Words6 {
    [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_found_again_in_its_place() {
        for word in ["10.1.0.5", "10.1.0.0/24", "0.0.0.0/0", "fd00:1::2", "fd00:1::/65", "::/0", "02:00:5e:10:00:ff"] {
            let client: Client = word.parse().expect("a client");
            let found = match place(client) {
                Place::Host(key) => host(&key),
                Place::Net(key) => net(key.prefix_len(), &key.data().0),
            };
            assert_eq!(found, Some(client), "{word}");
        }
    }
}
