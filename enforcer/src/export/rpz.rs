//! A response policy zone of the names that nobody may have, for unbound and others.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr};

use super::{Export, head};
use crate::{
    catalog::Pattern,
    dns::{DnsPolicy, Name},
    policy::{Action, Decision, Dns, Policy, Rule},
};

/// The zone's name.
pub const ZONE: &str = "enforcer.rpz";

/// Characters of a name (RFC 1035, 2.3.4). One that is longer would keep a server from the whole zone.
const NAME: usize = 253;

/// A name and those below it.
#[derive(Default)]
struct Node<'a> {
    below: BTreeMap<&'a str, Node<'a>>,
}

/// Names that the rules about clients deny to all of them are answered by NXDOMAIN; whatever is said of them, no others are.
#[must_use]
pub fn rpz(policy: &Policy) -> Export {
    let (policy, portal) = &super::admitted(policy.clone());
    let mut warnings = Vec::from_iter(portal.clone());
    let mut everybody = policy.clone();
    everybody.dns = Dns { denied: Decision::NxDomain, unnamed: Decision::Forward };
    let denies = |rule: &Rule| !matches!(policy.effect(rule), Action::Allow | Action::Monitor);
    for rule in policy.lan.rules.iter().filter(|rule| rule.from.is_some() && denies(rule)) {
        warnings.push(format!(
            "rule {:?} is about some clients: the names that it denies are not in the zone",
            rule.label()
        ));
    }
    // What some are allowed, nobody is denied here.
    everybody.lan.rules.retain(|rule| rule.from.is_none() || !denies(rule));
    everybody.lan.rules.iter_mut().for_each(|rule| rule.from = None);
    if policy.monitor {
        warnings.push("the policy only watches: the zone denies nothing".into());
    }
    let mut names: Vec<&Pattern> = Vec::new();
    for service in everybody.lan.rules.iter().filter_map(|rule| rule.services.as_ref()).flatten() {
        names.extend(&everybody.services[service.0 as usize].names);
    }
    let mut root = Node::default();
    for name in &names {
        name.labels().fold(&mut root, |node, label| node.below.entry(label).or_default());
    }
    let rules = Rules { policy: DnsPolicy::new(&everybody), probe: probe(&names) };
    let denied = rules.denied(&rules.probe);
    let (mut records, mut long) = (String::new(), Vec::new());
    for (label, node) in &root.below {
        rules.write(&mut records, &mut long, label, node, denied);
    }
    if !long.is_empty() {
        warnings.push(format!("names are too long for a zone of names, and are not in it: {}", long.join(", ")));
    }
    let about = [
        "Names that the policy denies to all clients, written by `enforcer export rpz`: a response policy zone.",
        "unbound: module-config: \"respip validator iterator\", and rpz: with name: enforcer.rpz and zonefile: this file.",
    ];
    let mut text = head(";", &about, &warnings);
    writeln!(text, "$ORIGIN {ZONE}.\n$TTL 60\n@ SOA localhost. nobody.invalid. 1 3600 600 86400 60\n@ NS localhost.")
        .expect("to memory");
    if denied {
        // Of these, rules about every name say nothing.
        text += "* CNAME .\n";
        for zone in ["in-addr.arpa", "ip6.arpa"] {
            writeln!(text, "*.{zone} CNAME rpz-passthru.").expect("to memory");
        }
    }
    Export { text: text + &records, warnings }
}

struct Rules {
    policy: DnsPolicy,
    /// A label that no name has.
    probe: String,
}

impl Rules {
    /// Whether a name is answered by NXDOMAIN.
    fn denied(&self, name: &str) -> bool {
        let anybody = Ipv4Addr::UNSPECIFIED.into();
        name.parse::<Name>().is_ok_and(|name| self.policy.decide(anybody, &name, &[]) == Decision::NxDomain)
    }

    /// What is said of a name, and of those below it. Where something above is denied, all is said again: a wildcard ends where there is a name
    /// (RFC 4592, 2.2.2).
    fn write(&self, text: &mut String, long: &mut Vec<String>, name: &str, node: &Node<'_>, above: bool) {
        let below = self.denied(&format!("{}.{name}", self.probe));
        for (owner, denied) in [(name.to_owned(), self.denied(name)), (format!("*.{name}"), below)] {
            if (denied || above) && owner.len() + 1 + ZONE.len() > NAME {
                long.push(owner);
            } else if denied || above {
                let answer = if denied { "." } else { "rpz-passthru." };
                writeln!(text, "{owner} CNAME {answer}").expect("to memory");
            }
        }
        for (label, node) in &node.below {
            self.write(text, long, &format!("{label}.{name}"), node, below || above);
        }
    }
}

fn probe(names: &[&Pattern]) -> String {
    let mut probe = String::from("any");
    while names.iter().flat_map(|name| name.labels()).any(|label| label == probe) {
        probe.push('y');
    }
    probe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalogs;

    fn zone(policy: &str) -> Export {
        rpz(&Policy::parse("p", policy, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}")))
    }

    fn records(policy: &str) -> Vec<String> {
        let text = zone(policy).text;
        text.lines().filter(|line| line.contains("CNAME")).map(str::to_owned).collect()
    }

    const SERVICES: &str = "[[service]]\nname = \"bad\"\nto = [\"*.example.org\", \"bad.example.com\"]\n\
                            [[service]]\nname = \"good\"\nto = [\"a.good.example.org\"]\n";

    #[test]
    fn denied_names_are_in_it_and_what_is_allowed_below_them_passes() {
        let rules =
            "[[rule]]\naction = \"allow\"\nservices = [\"good\"]\n[[rule]]\naction = \"drop\"\nservices = [\"bad\"]\n";
        let wanted = [
            "bad.example.com CNAME .",
            "*.example.org CNAME .",
            "good.example.org CNAME .",
            "*.good.example.org CNAME .",
            "a.good.example.org CNAME rpz-passthru.",
            "*.a.good.example.org CNAME .",
        ];
        assert_eq!(records(&format!("default = \"drop\"\n{SERVICES}{rules}")), wanted);
    }

    #[test]
    fn what_a_rule_says_of_some_clients_is_warned_of() {
        let rules = "[[rule]]\nname = \"some\"\naction = \"drop\"\nfrom = [\"10.1.0.0/24\"]\nservices = [\"bad\"]\n";
        let export = zone(&format!("default = \"drop\"\n{SERVICES}{rules}"));
        assert!(!export.text.contains("CNAME") && export.warnings[0].contains("\"some\""), "{export:?}");
    }

    #[test]
    fn a_name_that_is_too_long_for_a_zone_is_warned_of() {
        let name = |length: usize| format!("{}{}.org", "a123456789.".repeat(21), "b".repeat(length - 235));
        let rules = |name: &str| {
            format!(
                "default = \"drop\"\n[[service]]\nname = \"bad\"\nto = [\"{name}\"]\n[[rule]]\naction = \"drop\"\nservices = [\"bad\"]\n"
            )
        };
        let (fits, long) = (zone(&rules(&name(240))), zone(&rules(&name(241))));
        assert!(fits.warnings.is_empty() && fits.text.contains(&name(240)), "{fits:?}");
        assert!(long.warnings[0].contains(&name(241)) && !long.text.contains("CNAME"), "{long:?}");
    }

    #[test]
    fn a_rule_about_everything_denies_all_names_but_those_that_are_allowed() {
        let rules = "[[rule]]\naction = \"allow\"\nservices = [\"good\"]\n[[rule]]\naction = \"drop\"\n";
        let records = records(&format!("default = \"drop\"\n{SERVICES}{rules}"));
        assert_eq!(records[..3], ["* CNAME .", "*.in-addr.arpa CNAME rpz-passthru.", "*.ip6.arpa CNAME rpz-passthru."]);
        assert!(records.contains(&"a.good.example.org CNAME rpz-passthru.".to_owned()), "{records:?}");
        assert!(records.contains(&"*.org CNAME .".to_owned()), "{records:?}");
    }
}
