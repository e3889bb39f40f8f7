//! Destinations behind a NAT64 (RFC 6052, 2.2): addresses in its prefix are the IPv4 addresses that they end with.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Policy, Service, prefixes::without};

impl Policy {
    /// A service's destinations: within a NAT64 prefix, those that its IPv4 prefixes are translated to, and no others.
    #[must_use]
    pub fn destinations<'a>(&self, service: &'a Service) -> Cow<'a, [IpNet]> {
        if self.nat64.is_empty() {
            return Cow::Borrowed(&service.to);
        }
        // Every IPv4 address makes the whole NAT64 prefix.
        let whole = service.to.contains(&IpNet::V4(Ipv4Net::default()));
        let mut to = Vec::with_capacity(service.to.len());
        for net in &service.to {
            match *net {
                IpNet::V4(inner) => {
                    to.push(*net);
                    to.extend(self.nat64.iter().map(|outer| IpNet::from(translated(*outer, inner))));
                }
                IpNet::V6(_) if whole => to.push(*net),
                IpNet::V6(_) => to.extend(without(*net, self.nat64.iter().map(|outer| IpNet::from(*outer)))),
            }
        }
        to.sort_unstable();
        to.dedup();
        Cow::Owned(to)
    }
}

/// The IPv4 address that prefixes of 96 bits translate an address to; any other address as it is.
#[must_use]
pub fn inside(prefixes: &[Ipv6Net], address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(outer) if prefixes.iter().any(|prefix| prefix.contains(&outer)) => {
            Ipv4Addr::from_bits(outer.to_bits() as u32).into()
        }
        other => other,
    }
}

/// Where a NAT64 prefix of 96 bits puts an IPv4 prefix.
fn translated(outer: Ipv6Net, inner: Ipv4Net) -> Ipv6Net {
    let address = outer.network().to_bits() | u128::from(inner.network().to_bits());
    Ipv6Net::new_assert(address.into(), 96 + inner.prefix_len())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::policy::PortMatch;

    fn to(service: &[&str]) -> Vec<String> {
        let to = service.iter().map(|net| net.parse().expect("a prefix")).collect();
        let service = Service { name: "s".into(), to, names: Vec::new(), ports: vec![PortMatch::Any] };
        let nat64 = vec!["64:ff9b::/96".parse().expect("a prefix")];
        let policy = Policy { nat64, ..Policy::default() };
        policy.destinations(&service).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ipv4_prefixes_are_translated_and_ipv6_ones_stay_outside() {
        assert_eq!(to(&["17.0.0.0/8"]), ["17.0.0.0/8", "64:ff9b::1100:0/104"]);
        assert_eq!(to(&["2620:149::/32", "64:ff9b::808:0/112"]), ["2620:149::/32"]);
        assert_eq!(to(&["0.0.0.0/0", "::/0"]), ["0.0.0.0/0", "::/0", "64:ff9b::/96"]);
        assert_eq!(to(&["64:ff9b::/95"]), ["64:ff9b::1:0:0/96"]);
    }

    proptest! {
        #[test]
        fn an_address_behind_a_nat64_is_a_destination_as_its_ipv4_address_is(inner in any::<u32>(), length in 0..=32_u8, other in any::<u32>()) {
            let net = Ipv4Net::new_assert(inner.into(), length).trunc();
            let to = vec![net.into(), "::/0".parse().expect("a prefix")];
            let service = Service { name: "s".into(), to, names: Vec::new(), ports: vec![PortMatch::Any] };
            let nat64 = vec!["64:ff9b::/96".parse().expect("a prefix")];
            let policy = Policy { nat64, ..Policy::default() };
            let behind = IpAddr::from(Ipv6Addr::from_bits(0x64_ff9b << 96 | u128::from(other)));
            let holds = policy.destinations(&service).iter().any(|net| net.contains(&behind));
            prop_assert_eq!(holds, net.contains(&Ipv4Addr::from_bits(other)));
        }
    }
}
