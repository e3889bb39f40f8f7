//! ACLs and access rules for Squid: what it may fetch for clients.

use std::{collections::BTreeSet, fmt::Write as _};

use ipnet::IpNet;

use super::{Export, head, ports, sets};
use crate::policy::{Action, Policy, Proxied, Rule, Service, ServiceId};

/// As the lines have it that these take the place of: by no rule's word are clients let to its own pages, and to what only it can reach.
const INWARD: &str = "acl own-links dst 169.254.0.0/16 fe80::/10\n\
                      http_access deny manager\nhttp_access deny to_localhost\nhttp_access deny own-links\n";
/// Bytes of an ACL's name (ACL_NAME_SZ, without the zero at its end), less those of what is put behind it.
const NAME: usize = 63 - 8;

/// Lines for `squid.conf`, or a file that it includes, in the place of its own `http_access` lines: the clients' rules as far as they are about TCP,
/// in their order.
#[must_use]
pub fn squid(policy: &Policy) -> Export {
    let rules: Vec<&Rule> = policy
        .lan
        .rules
        .iter()
        // What clients may send to a proxy is none of its business.
        .filter(|rule| !matches!(rule.proxied, Some(Proxied::ToProxy | Proxied::FromProxy)))
        .collect();
    let about = [
        "What Squid may fetch for clients, written by `enforcer export squid`: include it in the place of squid.conf's http_access lines.",
        "Rules about other protocols than TCP are not here, as nothing of them goes through a proxy.",
    ];
    let mut text = head("#", &about, &[]) + INWARD;
    let used: BTreeSet<ServiceId> = rules.iter().filter_map(|rule| rule.services.as_ref()).flatten().copied().collect();
    for service in
        used.iter().map(|id| &policy.services[id.0 as usize]).filter(|service| ports::tcp(&service.ports).is_some())
    {
        define(&mut text, service);
    }
    let mut access = String::new();
    for (number, rule) in (1..).zip(rules) {
        let from = match rule.from.as_deref().map(|from| nets(from, "src")) {
            None => String::new(),
            Some(nets) if nets.is_empty() => String::new(),
            Some(nets) => {
                let name = format!("from-{number}");
                // A line each: Squid reads some eight thousand bytes of one.
                for net in nets {
                    writeln!(text, "acl {name} src {net}").expect("to memory");
                }
                format!(" {name}")
            }
        };
        let verdict = verdict(policy, policy.effect(rule), rule.proxied);
        writeln!(access, "# {}", rule.label().escape_default()).expect("to memory");
        match &rule.services {
            None if from.is_empty() => writeln!(access, "http_access {verdict} all").expect("to memory"),
            None => writeln!(access, "http_access {verdict}{from}").expect("to memory"),
            Some(services) => {
                for service in services.iter().map(|id| &policy.services[id.0 as usize]) {
                    for place in places(service) {
                        writeln!(access, "http_access {verdict}{from}{place}").expect("to memory");
                    }
                }
            }
        }
    }
    let rest = verdict(policy, policy.lan.default, None);
    writeln!(text, "{access}# default\nhttp_access {rest} all").expect("to memory");
    Export { text, warnings: Vec::new() }
}

fn verdict(policy: &Policy, action: Action, proxied: Option<Proxied>) -> &'static str {
    match policy.watched(action) {
        Action::Allow | Action::Monitor => "allow",
        // Here is the way by which it is allowed.
        _ if proxied == Some(Proxied::Through) => "allow",
        Action::Drop | Action::Reject => "deny",
    }
}

/// A service's ACLs: names, those below names, prefixes, ports.
fn define(text: &mut String, service: &Service) {
    let name = sets::short(&sets::plain(&service.name), NAME);
    for pattern in &service.names {
        // dstdomain has a form for names below a domain, too, but that takes the domain besides. Without -n, an address would be looked up.
        let line = if pattern.is_wildcard() {
            format!("acl {name}-below dstdom_regex -n -i \\.{}$", pattern.domain().replace('.', "\\."))
        } else {
            format!("acl {name}-names dstdomain -n {pattern}")
        };
        writeln!(text, "{line}").expect("to memory");
    }
    for net in nets(&service.to, "dst") {
        writeln!(text, "acl {name}-to dst {net}").expect("to memory");
    }
    for range in ports::tcp(&service.ports).unwrap_or_default() {
        writeln!(text, "acl {name}-ports port {}", ports::range(&range)).expect("to memory");
    }
}

/// What a request to a service is told by, a line each; none if the service is not about TCP.
fn places(service: &Service) -> Vec<String> {
    let name = sets::short(&sets::plain(&service.name), NAME);
    let Some(ports) = ports::tcp(&service.ports) else { return Vec::new() };
    let ports = if ports.is_empty() { String::new() } else { format!(" {name}-ports") };
    let mut places = Vec::new();
    for (wildcard, kind) in [(false, "names"), (true, "below")] {
        if service.names.iter().any(|name| name.is_wildcard() == wildcard) {
            places.push(format!(" {name}-{kind}{ports}"));
        }
    }
    if !service.to.is_empty() {
        let to = if nets(&service.to, "dst").is_empty() { String::new() } else { format!(" {name}-to") };
        places.push(if to.is_empty() && ports.is_empty() { " all".into() } else { format!("{to}{ports}") });
    }
    places
}

/// Prefixes in Squid's words; empty if all of both families are meant.
fn nets(nets: &[IpNet], kind: &str) -> Vec<String> {
    let families = [false, true].map(|v6| sets::of_family(nets, v6));
    let whole = families.each_ref().map(|nets| nets.first().is_some_and(|net| net.prefix_len() == 0));
    if whole == [true; 2] {
        return Vec::new();
    }
    let words = [("0.0.0.0/1 128.0.0.0/1", "ipv4"), ("::/1 8000::/1", "ipv6")];
    let mut all = Vec::new();
    for ((nets, whole), (halves, word)) in families.iter().zip(whole).zip(words) {
        if whole {
            // A prefix of no bits would mean both families.
            all.push(if kind == "dst" { word.to_owned() } else { halves.to_owned() });
        } else {
            all.extend(nets.iter().map(ToString::to_string));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalogs;

    fn lines(policy: &str) -> Vec<String> {
        let policy = Policy::parse("p", policy, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let text = squid(&policy).text;
        let (_, behind) = text.split_once(INWARD).expect("what is inward comes first");
        behind.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn rules_are_lines_in_their_order() {
        let policy = "default = \"drop\"\n[[service]]\nname = \"a/b\"\nto = [\"www.example.org\", \"*.example.com\", \"192.0.2.0/24\"]\nports = [\"tcp/443\", \"tcp/8000-8010\", \"udp/443\"]\n\
                      [[service]]\nname = \"time\"\nto = [\"any\"]\nports = [\"udp/123\"]\n[[service]]\nname = \"all\"\nto = [\"any\"]\n\
                      [[rule]]\naction = \"reject\"\nservices = [\"a/b\"]\nfrom = [\"10.1.0.0/24\", \"fd00::/64\"]\n\
                      [[rule]]\naction = \"allow\"\nservices = [\"time\", \"all\"]\n";
        let wanted = [
            "acl a_-b-names dstdomain -n www.example.org",
            "acl a_-b-below dstdom_regex -n -i \\.example\\.com$",
            "acl a_-b-to dst 192.0.2.0/24",
            "acl a_-b-ports port 443",
            "acl a_-b-ports port 8000-8010",
            "acl from-1 src 10.1.0.0/24",
            "acl from-1 src fd00::/64",
            "http_access deny from-1 a_-b-names a_-b-ports",
            "http_access deny from-1 a_-b-below a_-b-ports",
            "http_access deny from-1 a_-b-to a_-b-ports",
            "http_access allow all",
            "http_access deny all",
        ];
        let lines = lines(policy);
        let names = |line: &&String| !line.starts_with("acl a_-b-names") && !line.starts_with("acl a_-b-below");
        assert_eq!(lines.iter().filter(names).collect::<Vec<_>>(), wanted[2..].iter().collect::<Vec<_>>());
        assert!(wanted[..2].iter().all(|line| lines.contains(&(*line).to_owned())), "{lines:?}");
    }

    #[test]
    fn what_clients_are_to_reach_through_a_proxy_is_allowed() {
        let policy = "default = \"drop\"\n[[proxy]]\naddress = \"10.1.0.5\"\nport = 3128\nservices = [\"web\"]\n\
                      [[service]]\nname = \"web\"\nto = [\"203.0.113.0/24\"]\nports = [\"tcp/443\"]\n[[rule]]\naction = \"allow\"\nservices = [\"web\"]\n";
        assert_eq!(
            lines(policy),
            [
                "acl web-to dst 203.0.113.0/24",
                "acl web-ports port 443",
                "http_access allow web-to web-ports",
                "http_access deny all"
            ]
        );
    }
}
