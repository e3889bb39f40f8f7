//! Lines for dnsmasq that put the addresses of names into sets of nftables or ipset.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    Export, Refusal, head,
    sets::{self, TABLE},
};
use crate::{
    catalog::Pattern,
    dns::Patterns,
    policy::{Policy, ServiceId},
};

/// What sets are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// nftables, in the table that [`super::nftables`] writes.
    Nftables,
    /// ipset, for rules of iptables.
    Ipset,
}

/// Bytes of a line of dnsmasq's configuration (MAXDNAME in its source, 2.90).
const LINE: usize = 1024;
/// Bytes of a set's name (IPSET_MAXNAMELEN, without the zero at its end).
const IPSET_NAME: usize = 31;

/// A line for each name: all sets that it belongs to, as dnsmasq takes the longest domain that fits, and no other.
///
/// # Errors
/// If a line would be longer than dnsmasq takes.
pub fn dnsmasq(policy: &Policy, kind: Kind) -> Result<Export, Refusal> {
    if policy.portal.is_some() {
        return Err(Refusal::Portal("the table that this file is for"));
    }
    let services: Vec<_> = policy.named().collect();
    let patterns: Patterns<ServiceId> =
        services.iter().flat_map(|(id, service)| service.names.iter().map(|name| (name.clone(), *id))).collect();
    // Each domain with what is known of it: whether its own name is meant, and all below it.
    let mut domains: BTreeMap<String, [Option<&Pattern>; 2]> = BTreeMap::new();
    for name in services.iter().flat_map(|(_, service)| &service.names) {
        let known = domains.entry(name.domain().to_owned()).or_default();
        known[usize::from(name.is_wildcard())] = Some(name);
    }
    let mut groups: BTreeMap<Exactness, String> = BTreeMap::new();
    for (domain, [own, below]) in &domains {
        let covering = |name: &Option<&Pattern>| -> BTreeSet<ServiceId> {
            name.iter().flat_map(|name| patterns.covering(name)).copied().collect()
        };
        let (of_own, of_below) = (covering(own), covering(below));
        let all: BTreeSet<ServiceId> = of_own.union(&of_below).copied().collect();
        let names = all.iter().flat_map(|id| [false, true].map(|v6| set(policy, *id, v6, kind)));
        let sets: Vec<String> = names.collect();
        let line = match kind {
            Kind::Nftables => format!("nftset=/{domain}/{}\n", sets.join(",")),
            Kind::Ipset => format!("ipset=/{domain}/{}\n", sets.join(",")),
        };
        if line.len() > LINE {
            return Err(Refusal::LongLine(domain.clone(), "dnsmasq"));
        }
        let exactness = match (of_own == all, of_below == all) {
            (true, true) => Exactness::Exact,
            (true, false) => Exactness::Below,
            (false, true) => Exactness::Own,
            (false, false) => Exactness::Both,
        };
        groups.entry(exactness).or_default().push_str(&line);
    }
    let wide: Vec<&str> = groups
        .iter()
        .filter(|(exactness, _)| **exactness != Exactness::Exact)
        .flat_map(|(_, lines)| lines.lines().filter_map(|line| line.split('/').nth(1)))
        .collect();
    let mut warnings = Vec::new();
    if !wide.is_empty() {
        warnings.push(format!(
            "dnsmasq takes a name together with all below it: addresses of more names than the policy's are let in by {} of its {} lines, which the file shows ({}{})",
            wide.len(),
            domains.len(),
            wide[..wide.len().min(3)].join(", "),
            if wide.len() > 3 { ", …" } else { "" },
        ));
    }
    let about = [
        "Addresses of the policy's names, written by `enforcer export dnsmasq`: for dnsmasq's conf-dir.",
        "An address stays in its set for a time that another answer does not lengthen: answers are kept for less, so that it comes back soon.",
    ];
    let mut text = head("#", &about, &warnings);
    writeln!(text, "max-cache-ttl={}", policy.names.floor).expect("to memory");
    if kind == Kind::Ipset {
        text += "# The sets must be there first, and keep the addresses of a service's earlier names until `ipset flush`:\n";
        for (id, _) in &services {
            for (v6, family) in [(false, "inet"), (true, "inet6")] {
                let (set, seconds) = (set(policy, *id, v6, kind), sets::seconds(policy));
                writeln!(text, "# ipset create {set} hash:ip family {family} timeout {seconds}").expect("to memory");
            }
        }
    }
    for (exactness, lines) in groups {
        writeln!(text, "# {}\n{lines}", exactness.about()).expect("to memory");
    }
    Ok(Export { text: text.trim_end().to_owned() + "\n", warnings })
}

/// How what dnsmasq takes differs from what the policy says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Exactness {
    Exact,
    Below,
    Own,
    Both,
}

impl Exactness {
    const fn about(self) -> &'static str {
        match self {
            Self::Exact => "As the policy has them:",
            Self::Below => "The policy has the name, dnsmasq also takes all names below it:",
            Self::Own => "The policy has the names below it, dnsmasq also takes the name itself:",
            Self::Both => {
                "Services differ in whether they have the name or those below it, dnsmasq takes both for all:"
            }
        }
    }
}

fn set(policy: &Policy, id: ServiceId, v6: bool, kind: Kind) -> String {
    let service = &policy.services[id.0 as usize];
    match kind {
        Kind::Nftables => format!("{}#inet#{TABLE}#{}", if v6 { 6 } else { 4 }, sets::told(policy, service, v6)),
        Kind::Ipset => sets::short(&sets::names(service, v6), IPSET_NAME),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalogs;

    const POLICY: &str = "default = \"drop\"\n[[service]]\nname = \"a\"\nto = [\"*.example.org\", \"example.org\"]\n\
                          [[service]]\nname = \"b\"\nto = [\"www.example.org\", \"*.example.com\"]\n\
                          [[rule]]\naction = \"allow\"\nservices = [\"a\", \"b\"]\n";

    fn policy() -> Policy {
        Policy::parse("p", POLICY, &Catalogs::default()).expect("valid")
    }

    #[test]
    fn a_name_is_in_the_sets_of_all_its_services() {
        let policy = policy();
        let export = dnsmasq(&policy, Kind::Nftables).expect("exported");
        let [a, b] = [0, 1].map(|index| {
            let [v4, v6] = [false, true].map(|v6| sets::told(&policy, &policy.services[index], v6));
            format!("4#inet#enforcer#{v4},6#inet#enforcer#{v6}")
        });
        let end = format!(
            "# As the policy has them:\nnftset=/example.org/{a}\n\n\
             # The policy has the name, dnsmasq also takes all names below it:\nnftset=/www.example.org/{a},{b}\n\n\
             # The policy has the names below it, dnsmasq also takes the name itself:\nnftset=/example.com/{b}\n"
        );
        assert!(export.text.ends_with(&end), "{}", export.text);
        assert!(export.warnings[0].contains("2 of its 3 lines"), "{:?}", export.warnings);
        assert!(export.text.contains("\nmax-cache-ttl=60\n"));
    }

    #[test]
    fn sets_of_ipset_are_told_with_how_to_make_them() {
        let text = dnsmasq(&policy(), Kind::Ipset).expect("exported").text;
        assert!(text.contains("\nipset=/example.com/n4-b,n6-b\n"), "{text}");
        assert!(text.contains("\n# ipset create n6-b hash:ip family inet6 timeout 86460\n"), "{text}");
    }
}
