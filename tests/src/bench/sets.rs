//! Prefixes, hosts and policies of any size, from a seed.

use std::{collections::HashSet, net::IpAddr};

use enforcer::policy::{Action, Policy, PortMatch, Rule, Rules, Service, ServiceId, Transport};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rand::{Rng, RngExt as _, seq::IndexedRandom as _};

/// Shares of prefix lengths in the IPv4 internet's routing table, of a thousand (APNIC's weekly report, 2025, rounded).
const LENGTHS4: &[(u8, u32)] = &[
    (24, 620),
    (23, 100),
    (22, 115),
    (21, 50),
    (20, 45),
    (19, 25),
    (18, 14),
    (17, 8),
    (16, 14),
    (15, 4),
    (14, 3),
    (13, 2),
];
/// The same of IPv6.
const LENGTHS6: &[(u8, u32)] =
    &[(48, 500), (44, 90), (40, 80), (36, 50), (32, 180), (29, 60), (28, 10), (56, 20), (64, 10)];

/// Distinct prefixes, lengths as in the internet's table.
pub fn prefixes(rng: &mut impl Rng, count: usize, v6: bool) -> Vec<IpNet> {
    let lengths = if v6 { LENGTHS6 } else { LENGTHS4 };
    // IPv6 allocations are /32s; what is announced lies in far fewer of them than there are prefixes.
    let allocations: Vec<u32> = (0..count.div_ceil(8).max(4)).map(|_| 0x2000_0000 | rng.random::<u32>() >> 3).collect();
    let mut seen = HashSet::with_capacity(count);
    while seen.len() < count {
        let length = lengths.choose_weighted(rng, |(_, share)| *share).expect("shares are positive").0;
        let net: IpNet = if v6 {
            let high = u128::from(*allocations.choose(rng).expect("at least four")) << 96;
            Ipv6Net::new_assert((high | u128::from(rng.random::<u64>()) << 32).into(), length).trunc().into()
        } else {
            Ipv4Net::new_assert(rng.random_range(0x0100_0000..0xdf00_0000).into(), length).trunc().into()
        };
        seen.insert(net);
    }
    let mut list: Vec<IpNet> = seen.into_iter().collect();
    // Not in the order of this process's hash keys.
    list.sort_unstable();
    list
}

/// Distinct IPv4 hosts.
pub fn hosts(rng: &mut impl Rng, count: usize) -> Vec<IpNet> {
    let mut seen = HashSet::with_capacity(count);
    while seen.len() < count {
        seen.insert(rng.random_range(0x0100_0000..0xdf00_0000_u32));
    }
    let mut list: Vec<u32> = seen.into_iter().collect();
    list.sort_unstable();
    list.into_iter().map(|address| IpNet::from(IpAddr::from(std::net::Ipv4Addr::from(address)))).collect()
}

/// A random address in a prefix.
pub fn within(rng: &mut impl Rng, net: &IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let address = u32::from(net.network()) | rng.random::<u32>() & u32::from(net.hostmask());
            std::net::Ipv4Addr::from(address).into()
        }
        IpNet::V6(net) => {
            let address = u128::from(net.network()) | rng.random::<u128>() & u128::from(net.hostmask());
            std::net::Ipv6Addr::from(address).into()
        }
    }
}

fn tcp(first: u16, last: u16) -> PortMatch {
    PortMatch::Ports { transport: Transport::Tcp, first, last }
}

/// One rule for all prefixes on TCP 443.
pub fn one_rule(to: Vec<IpNet>, action: Action) -> Policy {
    let service = Service { name: "all".into(), to, names: Vec::new(), ports: vec![tcp(443, 443)] };
    let default = if action == Action::Allow { Action::Drop } else { Action::Allow };
    policy(vec![service], vec![rule(action, 0, None)], default)
}

/// Rules that each have prefixes of their own, over fifty sets of ports and fifty of sources.
pub fn many_rules(rng: &mut impl Rng, count: usize, to: &[IpNet]) -> Policy {
    let ports: Vec<Vec<PortMatch>> =
        (0..50_u16).map(|set| vec![tcp(443, 443), tcp(1000 + set * 10, 1500 + set * 20)]).collect();
    let sources: Vec<Vec<IpNet>> = (0..50_u8)
        .map(|set| {
            let net = |bits: [u8; 4], length| IpNet::from(Ipv4Net::new_assert(bits.into(), length));
            let net6 = |word: u16| IpNet::from(Ipv6Net::new_assert([0xfd00, word, 0, 0, 0, 0, 0, 0].into(), 64));
            let v4 = [net([10, 1, 0, 0], 16), net([10, 2 + set, 0, 0], 16), net([10, 200, set, 0], 24)];
            [&v4[..], &[net6(1), net6(2 + u16::from(set))]].concat()
        })
        .collect();
    let share = (to.len() / count).max(1);
    let services = to
        .chunks(share)
        .take(count)
        .enumerate()
        .map(|(index, to)| {
            let ports = ports[index % 50].clone();
            Service { name: format!("s{index}"), to: to.to_vec(), names: Vec::new(), ports }
        })
        .collect();
    let rules = (0..count.min(to.len() / share))
        .map(|index| rule(Action::Allow, index as u32, Some(sources[rng.random_range(0..50)].clone())))
        .collect();
    policy(services, rules, Action::Drop)
}

fn rule(action: Action, service: u32, from: Option<Vec<IpNet>>) -> Rule {
    Rule { services: Some(vec![ServiceId(service)]), from, ..Rule::new(action) }
}

fn policy(services: Vec<Service>, rules: Vec<Rule>, default: Action) -> Policy {
    Policy { services, lan: Rules { default, rules }, ..Policy::default() }
}
