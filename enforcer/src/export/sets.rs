//! What a service's sets are called in nftables, dnsmasq and ipset, and which services need some.

use std::collections::BTreeSet;

use ipnet::IpNet;
use sha2::Digest as _;

use crate::policy::{Policy, Rules, Service, ServiceId};

/// The table that all is in.
pub const TABLE: &str = "enforcer";

/// A service's set of prefixes.
#[must_use]
pub fn prefixes(service: &Service, v6: bool) -> String {
    format!("to{}-{}", family(v6), plain(&service.name))
}

/// A service's set of addresses of names, which dnsmasq fills.
#[must_use]
pub fn names(service: &Service, v6: bool) -> String {
    format!("n{}-{}", family(v6), plain(&service.name))
}

/// The services that some rules name, in order.
#[must_use]
pub fn used<'a>(policy: &'a Policy, lists: &[&Rules]) -> Vec<&'a Service> {
    let rules = lists.iter().flat_map(|list| &list.rules);
    let ids: BTreeSet<ServiceId> = rules.filter_map(|rule| rule.services.as_ref()).flatten().copied().collect();
    ids.into_iter().map(|id| &policy.services[id.0 as usize]).collect()
}

/// The prefixes of a family, as few as there can be.
#[must_use]
pub fn of_family(nets: &[IpNet], v6: bool) -> Vec<IpNet> {
    IpNet::aggregate(&nets.iter().filter(|net| net.addr().is_ipv6() == v6).copied().collect())
}

/// A name that fits where there is room for so many bytes: the end of a longer one becomes a hash of all of it.
#[must_use]
pub fn short(name: &str, room: usize) -> String {
    if name.len() <= room {
        return name.to_owned();
    }
    let hash = sha2::Sha256::digest(name);
    format!("{}~{:02x}{:02x}{:02x}{:02x}", &name[..room - 9], hash[0], hash[1], hash[2], hash[3])
}

const fn family(v6: bool) -> char {
    if v6 { '6' } else { '4' }
}

/// Without slashes, which end a domain in dnsmasq's lines: two services never become one.
pub fn plain(name: &str) -> String {
    name.replace('_', "__").replace('/', "_-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_ends_with_its_hash() {
        assert_eq!(short("n4-apple_-apns", 31), "n4-apple_-apns");
        let [a, b] = ["a", "b"].map(|end| short(&format!("n4-{}{end}", "x".repeat(40)), 31));
        assert!(a != b && a.len() == 31 && a[..22] == b[..22], "{a} {b}");
    }

    #[test]
    fn names_stay_different() {
        let all = ["apple/apns", "apple_/apns", "apple_-apns", "apple/_apns", "apple__apns", "apple_apns"];
        let different: BTreeSet<String> = all.into_iter().map(plain).collect();
        assert_eq!(different.len(), all.len(), "{different:?}");
    }
}
