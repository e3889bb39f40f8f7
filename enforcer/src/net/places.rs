//! What is said of prefixes, and the places that follow from it for addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use enforcer_ebpf::abi::place;
use ipnet::IpNet;

use crate::compile::prefixes::{Address, Prefix};

/// What is said of a prefix. Of its zone, the best word counts; flags add up, but those that come with a zone against which a route decides.
pub struct Said {
    /// The prefix.
    pub net: IpNet,
    /// Who names a zone, and which: 0 is none of the LANs'.
    pub zone: Option<(Word, u8)>,
    /// As in [`place`].
    pub flags: u32,
}

/// Whose word counts of a prefix's zone, the best first. Longer prefixes' words count for their part of it, whosever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// What is the gateway's own, or means the same everywhere.
    Fixed,
    /// A route by its metric: the kernel, too, takes the smallest.
    Route(u32),
    /// An address, where no route leads to its prefix.
    Address,
}

/// Places by prefix, nested.
pub struct Places {
    /// Of IPv4.
    pub v4: Vec<Prefix<u32>>,
    /// Of IPv6.
    pub v6: Vec<Prefix<u128>>,
    /// Prefixes of which equally good words name several zones, and the one that counts: 0, or else the smallest.
    pub shared: Vec<(IpNet, u8)>,
}

impl Said {
    /// Of no LAN, whatever routes to the same prefix say.
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
        let ((v4, shared4), (v6, shared6)) = (merge::<u32>(v4), merge::<u128>(v6));
        let net = |address: IpAddr, length| IpNet::new(address, length).expect("it came in so");
        let of4 =
            shared4.into_iter().map(|(address, length, zone)| (net(Ipv4Addr::from(address).into(), length), zone));
        let of6 =
            shared6.into_iter().map(|(address, length, zone)| (net(Ipv6Addr::from(address).into(), length), zone));
        Self { v4, v6, shared: of4.chain(of6).collect() }
    }
}

/// Prefixes that mean the same wherever the gateway stands, and lie behind no LAN: what they have of clients' addresses, every link has for itself.
/// Most are in the IANA's registries of special-purpose addresses (RFC 6890).
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

/// A prefix that several zones have an equal right to: address, length, and the zone that counts.
type Shared<A> = (A, u8, u8);

/// Nested prefixes with what holds for their addresses.
fn merge<A: Address>(mut said: Vec<Row<A>>) -> (Vec<Prefix<A>>, Vec<Shared<A>>) {
    said.sort_unstable_by_key(|&(address, length, ..)| (address, length));
    let mut places: Vec<Prefix<A>> = Vec::new();
    let mut around: Vec<Prefix<A>> = Vec::new();
    let mut shared = Vec::new();
    for same in said.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (address, length, ..) = same[0];
        while around.last().is_some_and(|outer| address.network(outer.length) != outer.address) {
            around.pop();
        }
        let outer = around.last().map_or(0, |outer| outer.value);
        let words = || same.iter().filter_map(|said| said.2);
        let best = words().min();
        let zone = best.map_or(outer & place::ZONE, |(_, zone)| zone.into());
        if let Some((best, zone)) = best
            && words().any(|(word, other)| word == best && other != zone)
        {
            shared.push((address, length, zone));
        }
        // A part of the LAN's prefix that is routed elsewhere is not local, unless something else says so.
        let inherited =
            if zone == outer & place::ZONE { outer & !place::ZONE } else { outer & !(place::ZONE | place::LOCAL) };
        // Nor is a LAN's whole prefix, if the kernel would not send there by the LAN.
        let holds = |said: &&Row<A>| match (best, said.2) {
            (Some((Word::Route(_), decided)), Some((_, named))) => named == decided,
            _ => true,
        };
        let flags = same.iter().filter(holds).fold(inherited, |flags, said| flags | said.3);
        let value = flags | zone;
        // Most routes of a router that knows the internet lead to a WAN, which is what an address without a place means.
        if value != outer {
            let prefix = Prefix { address, length, value };
            places.push(prefix);
            around.push(prefix);
        }
    }
    (places, shared)
}
