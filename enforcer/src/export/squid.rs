//! ACLs and access rules for Squid: what it may fetch for clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use ipnet::IpNet;

use super::{Export, head, ports, sets};
use crate::policy::{Action, Policy, Proxied, Rule, Service, ServiceId};

/// As the lines have it that these take the place of: by no rule's word are clients let to its own pages, and to what only it can reach. Names are looked
/// up for it: so it ends the lines that allow, and what is denied anyway costs no question.
const INWARD: &str = "acl own-links dst 169.254.0.0/16 fe80::/10\nhttp_access deny manager\n";
const NOT_INWARD: &str = " !to_localhost !own-links";
/// Bytes of an ACL's name (ACL_NAME_SZ, without the zero at its end), less those of what is put behind it.
const NAME: usize = 63 - 8;

/// Lines for `squid.conf`, or a file that it includes, in the place of its own `http_access` lines: the clients' rules as far as they are about TCP,
/// in their order.
#[must_use]
pub fn squid(policy: &Policy) -> Export {
    let (policy, portal) = &super::admitted(policy.clone());
    let rules: Vec<&Rule> = policy
        .lan
        .rules
        .iter()
        // What clients may send to a proxy is none of its business.
        .filter(|rule| !matches!(rule.proxied, Some(Proxied::ToProxy | Proxied::FromProxy)))
        .collect();
    let mut used: BTreeMap<ServiceId, BTreeSet<Verdict>> = BTreeMap::new();
    let (mut sources, mut access) = (String::new(), String::new());
    for (number, rule) in (1..).zip(&rules) {
        let verdict = Verdict::of(policy, policy.effect(rule), rule.proxied);
        let from = match rule.from.as_deref().map(|from| nets(from, "src")) {
            None => String::new(),
            Some(nets) if nets.is_empty() => String::new(),
            Some(nets) => {
                let name = format!("from-{number}");
                // A line each: Squid reads some eight thousand bytes of one.
                for net in nets {
                    writeln!(sources, "acl {name} src {net}").expect("to memory");
                }
                format!(" {name}")
            }
        };
        writeln!(access, "# {}", rule.label().escape_default()).expect("to memory");
        match &rule.services {
            None => access += &verdict.line(&from),
            Some(services) => {
                for (id, service) in services.iter().map(|id| (*id, service(policy, *id))) {
                    let Some(places) = places(service, verdict) else { continue };
                    used.entry(id).or_default().insert(verdict);
                    places.iter().for_each(|place| access += &verdict.line(&format!("{from}{place}")));
                }
            }
        }
    }
    let rest = Verdict::of(policy, policy.lan.default, None);
    let mut warnings = warnings(policy, &rules, rest, &used);
    warnings.extend(portal.clone());
    let about = [
        "What Squid may fetch for clients, written by `enforcer export squid`: include it in the place of squid.conf's http_access lines.",
        "Rules about other protocols than TCP are not here, as nothing of them goes through a proxy.",
    ];
    let mut text = head("#", &about, &warnings) + INWARD;
    for (id, verdicts) in &used {
        define(&mut text, service(policy, *id), verdicts);
    }
    write!(text, "{sources}{access}# default\n{}", rest.line("")).expect("to memory");
    Export { text, warnings }
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Allow,
    Deny,
}

impl Verdict {
    fn of(policy: &Policy, action: Action, proxied: Option<Proxied>) -> Self {
        match policy.watched(action) {
            Action::Allow | Action::Monitor => Self::Allow,
            // Here is the way by which it is allowed.
            _ if proxied == Some(Proxied::Through) => Self::Allow,
            Action::Drop | Action::Reject => Self::Deny,
        }
    }

    /// A line about what some ACLs take.
    fn line(self, acls: &str) -> String {
        let acls = if acls.is_empty() { " all" } else { acls };
        match self {
            Self::Allow => format!("http_access allow{acls}{NOT_INWARD}\n"),
            Self::Deny => format!("http_access deny{acls}\n"),
        }
    }

    /// The ACL of prefixes: what comes behind its name, and its option. What is allowed by prefix is so for addresses that stand in the request itself: a
    /// name that leads to one may lead elsewhere, too, and asking for any name that clients make up tells its name server whatever they like. What is
    /// denied by prefix is denied by every name.
    const fn prefixes(self) -> (&'static str, &'static str) {
        match self {
            Self::Allow => ("to", "dst -n"),
            Self::Deny => ("into", "dst"),
        }
    }
}

fn service(policy: &Policy, id: ServiceId) -> &Service {
    &policy.services[id.0 as usize]
}

/// What Squid tells by names where the gateway tells by addresses, or the other way round.
fn warnings(
    policy: &Policy,
    rules: &[&Rule],
    rest: Verdict,
    used: &BTreeMap<ServiceId, BTreeSet<Verdict>>,
) -> Vec<String> {
    let verdict = |rule: &Rule| Verdict::of(policy, policy.effect(rule), rule.proxied);
    let of = |rule: &Rule| rule.services.iter().flatten().map(|id| service(policy, *id)).collect::<Vec<_>>();
    let some = |service: &&Service| !service.to.is_empty() && !nets(&service.to, "dst").is_empty();
    let by_prefix = used.iter().filter(|(_, verdicts)| verdicts.contains(&Verdict::Allow));
    let by_prefix: Vec<&str> =
        by_prefix.map(|(id, _)| service(policy, *id)).filter(some).map(|service| service.name.as_str()).collect();
    // Rules that deny by name what a later one may allow by address.
    let mut by_name: Vec<String> = Vec::new();
    let mut by_address = rest == Verdict::Allow;
    for rule in rules.iter().rev() {
        match verdict(rule) {
            Verdict::Allow => {
                by_address |= rule.services.is_none() || of(rule).iter().any(|other| !other.to.is_empty());
            }
            Verdict::Deny if by_address && of(rule).iter().any(|other| !other.names.is_empty()) => {
                by_name.push(format!("{:?}", rule.label()));
            }
            Verdict::Deny => {}
        }
    }
    by_name.reverse();
    let mut warnings = Vec::new();
    if !by_prefix.is_empty() {
        warnings.push(format!(
            "Squid allows the prefixes of {} to requests that have an address in the place of a name: give services the names by which clients ask for them",
            by_prefix.join(", ")
        ));
    }
    if !by_name.is_empty() {
        warnings.push(format!(
            "what rules deny by name ({}) and others allow by address, Squid serves to requests that have an address in the place of the name: only the gateway, which knows names' addresses, keeps the proxy from there",
            by_name.join(", ")
        ));
    }
    warnings
}

/// What a service's ACLs begin with: Squid knows their names by `strcasecmp`.
fn called(service: &Service) -> String {
    sets::short_lower(&sets::plain(&service.name), NAME)
}

/// A service's ACLs for some verdicts: names, those below names, prefixes, ports.
fn define(text: &mut String, service: &Service, verdicts: &BTreeSet<Verdict>) {
    let name = called(service);
    for pattern in &service.names {
        // dstdomain has a form for names below a domain, too, but that takes the domain besides. Without -n, an address would be looked up.
        let line = if pattern.is_wildcard() {
            format!("acl {name}-below dstdom_regex -n -i \\.{}$", pattern.domain().replace('.', "\\."))
        } else {
            format!("acl {name}-names dstdomain -n {pattern}")
        };
        writeln!(text, "{line}").expect("to memory");
    }
    for (kind, acl) in verdicts.iter().map(|verdict| verdict.prefixes()) {
        for net in nets(&service.to, "dst") {
            writeln!(text, "acl {name}-{kind} {acl} {net}").expect("to memory");
        }
    }
    for range in ports::tcp(&service.ports).unwrap_or_default() {
        writeln!(text, "acl {name}-ports port {}", ports::range(&range)).expect("to memory");
    }
}

/// What a request to a service is told by, a line each; none if the service is not about TCP. What may need a question comes last.
fn places(service: &Service, verdict: Verdict) -> Option<Vec<String>> {
    let name = called(service);
    let ports = if ports::tcp(&service.ports)?.is_empty() { String::new() } else { format!(" {name}-ports") };
    let mut places = Vec::new();
    for (wildcard, kind) in [(false, "names"), (true, "below")] {
        if service.names.iter().any(|name| name.is_wildcard() == wildcard) {
            places.push(format!("{ports} {name}-{kind}"));
        }
    }
    if !service.to.is_empty() {
        let all = nets(&service.to, "dst").is_empty();
        places.push(if all { ports } else { format!("{ports} {name}-{}", verdict.prefixes().0) });
    }
    Some(places)
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

    fn exported(policy: &str) -> Export {
        let policy = Policy::parse("p", policy, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        squid(&policy)
    }

    fn lines(policy: &str) -> Vec<String> {
        let text = exported(policy).text;
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
            "acl a_-b-into dst 192.0.2.0/24",
            "acl a_-b-ports port 443",
            "acl a_-b-ports port 8000-8010",
            "acl from-1 src 10.1.0.0/24",
            "acl from-1 src fd00::/64",
            "http_access deny from-1 a_-b-ports a_-b-names",
            "http_access deny from-1 a_-b-ports a_-b-below",
            "http_access deny from-1 a_-b-ports a_-b-into",
            "http_access allow all !to_localhost !own-links",
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
                "acl web-to dst -n 203.0.113.0/24",
                "acl web-ports port 443",
                "http_access allow web-ports web-to !to_localhost !own-links",
                "http_access deny all"
            ]
        );
    }

    #[test]
    fn names_and_addresses_that_do_not_stand_for_each_other_are_warned_of() {
        let services = "[[service]]\nname = \"net\"\nto = [\"203.0.113.0/24\"]\n[[service]]\nname = \"bad\"\nto = [\"bad.example.org\"]\n";
        let policy = |default: &str, rules: &[(&str, &str)]| {
            let rules = rules.iter().map(|(action, service)| {
                format!("[[rule]]\nname = \"{action}-{service}\"\naction = \"{action}\"\nservices = [\"{service}\"]\n")
            });
            format!("default = \"{default}\"\n{services}{}", rules.collect::<String>())
        };
        let warnings = |default, rules| exported(&policy(default, rules)).warnings;
        assert!(warnings("drop", &[("allow", "bad"), ("drop", "net")]).is_empty());
        assert!(warnings("drop", &[("allow", "net"), ("drop", "bad")])[0].contains("prefixes of net "));
        assert_eq!(warnings("drop", &[("allow", "net"), ("drop", "bad")]).len(), 1);
        assert!(warnings("drop", &[("drop", "bad"), ("allow", "net")])[1].contains("(\"drop-bad\")"));
        assert!(warnings("allow", &[("drop", "bad")])[0].contains("(\"drop-bad\")"));
    }
}
