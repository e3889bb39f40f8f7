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

/// A service's set of addresses of names, for rules that others have written.
#[must_use]
pub fn names(service: &Service, v6: bool) -> String {
    format!("n{}-{}", family(v6), plain(&service.name))
}

/// The same in nftables' table, which is loaded over an earlier one: what other names have told, or for how long, is in another set. The kernel would
/// not take another time-out for a set that is there, either.
#[must_use]
pub fn told(policy: &Policy, service: &Service, v6: bool) -> String {
    let words: BTreeSet<String> = service.names.iter().map(ToString::to_string).collect();
    let all: String = words.iter().map(|word| format!("{word} ")).collect();
    format!("{}-{}", names(service, v6), hash(&format!("{all}{}", seconds(policy))))
}

/// For how long an address is in such a set.
#[must_use]
pub fn seconds(policy: &Policy) -> u32 {
    policy.names.ceiling + policy.names.grace
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
    if name.len() <= room { name.to_owned() } else { ended(name, name, room) }
}

/// The same for programs to which upper and lower case are one: names with capitals become lower and end with a hash, too.
#[must_use]
pub fn short_lower(name: &str, room: usize) -> String {
    let lower = name.to_ascii_lowercase();
    if lower == name { short(name, room) } else { ended(&lower, name, room) }
}

fn ended(start: &str, whole: &str, room: usize) -> String {
    format!("{}~{}", &start[..start.len().min(room - 9)], hash(whole))
}

/// Eight hexadecimal digits.
fn hash(text: &str) -> String {
    sha2::Sha256::digest(text)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
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
    use crate::catalog::Catalogs;

    #[test]
    fn what_is_too_long_ends_with_its_hash() {
        assert_eq!(short("n4-apple_-apns", 31), "n4-apple_-apns");
        let [a, b] = ["a", "b"].map(|end| short(&format!("n4-{}{end}", "x".repeat(40)), 31));
        assert!(a != b && a.len() == 31 && a[..22] == b[..22], "{a} {b}");
        let [a, b, c] = ["Web", "WEB", "web"].map(|name| short_lower(name, 31));
        assert!(a != b && a.starts_with("web~") && b.starts_with("web~") && c == "web", "{a} {b} {c}");
        assert_eq!(short_lower(&"X".repeat(64), 31).len(), 31);
    }

    #[test]
    fn a_set_of_nftables_is_of_a_services_names_and_their_time() {
        let set = |to: &str, ports: &str, more: &str| {
            let text = format!("default = \"drop\"\n[[service]]\nname = \"a\"\nto = [{to}]\nports = [{ports}]\n{more}");
            let policy =
                Policy::parse("p", &text, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            told(&policy, &policy.services[0], false)
        };
        let one = set("\"a.example.org\", \"*.example.com\"", "\"tcp/443\"", "");
        assert!(one.starts_with("n4-a-") && one.len() == 13, "{one}");
        assert_eq!(one, set("\"*.example.com\", \"a.example.org\", \"192.0.2.1\"", "\"tcp/80\"", ""));
        assert_ne!(one, set("\"a.example.org\"", "\"tcp/443\"", ""));
        assert_ne!(one, set("\"a.example.org\", \"*.example.com\"", "\"tcp/443\"", "[names]\nceiling = 600\n"));
    }

    #[test]
    fn names_stay_different() {
        let all = ["apple/apns", "apple_/apns", "apple_-apns", "apple/_apns", "apple__apns", "apple_apns"];
        let different: BTreeSet<String> = all.into_iter().map(plain).collect();
        assert_eq!(different.len(), all.len(), "{different:?}");
    }
}
