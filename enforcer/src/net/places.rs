//! What is said of prefixes, and the places that follow from it for addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use enforcer_ebpf::abi::place;
use ipnet::IpNet;

use crate::compile::prefixes::{Address, Prefix};

/// What is said of a prefix. The zone of the longest one that names any counts; flags add up.
pub struct Said {
    /// The prefix.
    pub net: IpNet,
    /// Who names a zone, and which: 0 is none of the LANs'.
    pub zone: Option<(Word, u8)>,
    /// They hold where the zone that counts is this one.
    pub flags: u32,
}

/// Whose word counts of a prefix's zone, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// What is the gateway's own, or means the same everywhere.
    Fixed,
    /// A route by its metric: the kernel, too, takes the smallest.
    Route(u32),
    /// An address whose prefix no route leads to.
    Address,
}

/// Places by prefix, nested.
#[derive(Default)]
pub struct Places {
    /// Of IPv4.
    pub v4: Vec<Prefix<u32>>,
    /// Of IPv6.
    pub v6: Vec<Prefix<u128>>,
    /// Prefixes that several links have an equal right to, one of them a LAN's, and the zone that counts: the strictest word, which is none, or else the first.
    pub shared: Vec<(IpNet, u8)>,
}

impl Said {
    /// Of no LAN, whatever routes say.
    pub const fn fixed(net: IpNet, flags: u32) -> Self {
        Self { net, zone: Some((Word::Fixed, 0)), flags }
    }
}

/// A family's share of what is said: address, prefix length, zone, flags.
type Row<A> = (A, u8, Option<(Word, u8)>, u32);

impl Places {
    /// What holds for the addresses in each prefix.
    pub fn new(said: Vec<Said>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for said in said {
            match said.net {
                IpNet::V4(net) => v4.push((net.network().into(), net.prefix_len(), said.zone, said.flags)),
                IpNet::V6(net) => {
                    let address = u128::from(net.network());
                    if net.prefix_len() > 64 {
                        let zones = match said.zone {
                            Some(_) if net.prefix_len() == 128 => place::HOSTS_BELOW,
                            Some(_) => place::ZONES_BELOW,
                            None => 0,
                        };
                        v6.push((address.network(64), 64, None, place::BELOW | zones));
                    }
                    v6.push((address, net.prefix_len(), said.zone, said.flags));
                }
            }
        }
        let (mut shared4, mut shared6) = (Vec::new(), Vec::new());
        let (v4, v6) = (merge::<u32>(v4, &mut shared4), merge::<u128>(v6, &mut shared6));
        let net = |address: IpAddr, length| IpNet::new(address, length).expect("it came in so");
        let of4 =
            shared4.into_iter().map(|(address, length, zone)| (net(Ipv4Addr::from(address).into(), length), zone));
        let of6 =
            shared6.into_iter().map(|(address, length, zone)| (net(Ipv6Addr::from(address).into(), length), zone));
        Self { v4, v6, shared: of4.chain(of6).collect() }
    }
}

/// Prefixes that mean the same wherever the gateway stands, and no client can have addresses in: the IANA's registries of special-purpose addresses, RFC 6890.
pub fn well_known() -> Vec<Said> {
    [
        ("0.0.0.0/8", 0),
        ("127.0.0.0/8", 0),
        // Not local: Linux forwards it, on a virtual machine even to the host's own services.
        ("169.254.0.0/16", place::LINK_LOCAL),
        ("224.0.0.0/4", place::LOCAL),
        ("240.0.0.0/4", 0),
        ("255.255.255.255/32", place::LOCAL),
        // Unspecified, loopback and IPv4-mapped addresses.
        ("::/64", 0),
        ("fe80::/10", place::LOCAL | place::LINK_LOCAL),
        ("ff00::/8", place::LOCAL),
    ]
    .into_iter()
    .map(|(net, flags)| Said::fixed(net.parse().expect("written above"), flags))
    .collect()
}

/// Nested prefixes with what holds for their addresses.
fn merge<A: Address>(mut said: Vec<Row<A>>, shared: &mut Vec<(A, u8, u8)>) -> Vec<Prefix<A>> {
    said.sort_unstable_by_key(|&(address, length, ..)| (address, length));
    let mut places: Vec<Prefix<A>> = Vec::new();
    let mut around: Vec<Prefix<A>> = Vec::new();
    for same in said.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (address, length, ..) = same[0];
        while around.last().is_some_and(|outer| address.network(outer.length) != outer.address) {
            around.pop();
        }
        let outer = around.last().map_or(0, |outer| outer.value);
        let zones = || same.iter().filter_map(|said| said.2);
        let best = zones().min();
        let zone = best.map_or(outer & place::ZONE, |(_, zone)| zone.into());
        let is_rival = |&(word, other): &(Word, u8)| {
            let same_right = word == Word::Address || best.is_some_and(|(best, _)| best == word);
            same_right && word != Word::Fixed && u32::from(other) != zone
        };
        if best.is_some_and(|(word, _)| word != Word::Fixed) && zones().any(|other| is_rival(&other)) {
            shared.push((address, length, zone as u8));
        }
        // A part of the LAN's prefix that is routed elsewhere is not local, unless something else says so.
        let inherited =
            if zone == outer & place::ZONE { outer & !place::ZONE } else { outer & !(place::ZONE | place::LOCAL) };
        let holds = |said: &&Row<A>| said.2.is_none_or(|(_, of)| u32::from(of) == zone);
        let flags = same.iter().filter(holds).fold(inherited, |flags, said| flags | said.3);
        let value = flags | zone;
        // Most routes of a router that knows the internet lead to a WAN, which is what an address without a place means.
        if value != outer {
            let prefix = Prefix { address, length, value };
            places.push(prefix);
            around.push(prefix);
        }
    }
    places
}
