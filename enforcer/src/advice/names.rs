//! Rules about services of which only names are known.

use ipnet::IpNet;

use super::{Advice, called, listed};
use crate::{
    catalog::{Catalogs, Host},
    compile::ports,
    policy::{Action, Policy, PortMatch, Rule, Rules},
};

/// Warnings about rules that match nothing for now, and about those whose names another rule may allow by address.
pub fn rules(policy: &Policy, rules: &Rules, catalogs: &Catalogs) -> Vec<Advice> {
    let mut advice = Vec::new();
    for rule in rules.rules.iter().filter(|rule| !rule.unresolved.is_empty()) {
        let services = listed(&rule.unresolved);
        if rule.action != Action::Allow
            && let Some((allowing, place)) =
                rule.unresolved.iter().find_map(|service| reached(policy, rules, catalogs, service))
        {
            let message = format!(
                "{} does not deny the names of {services} yet, and rule {} allows {place}, where they may lie",
                called(rule),
                allowing.label()
            );
            let help = "names are not matched by this version: take the prefix out of that rule's services, or deny it in a rule before that one";
            advice.push(Advice::new(Some(rule), message, help));
        } else if rule.services.as_ref().is_some_and(Vec::is_empty) {
            let message = format!("{} matches nothing yet: of {services}, only names are known", called(rule));
            advice.push(Advice::new(
                Some(rule),
                message,
                "names are not matched by this version: add a service with prefixes",
            ));
        }
    }
    advice
}

/// A rule that allows addresses of a service's vendor on a port that the service's names are reached on, and which these are.
fn reached<'a>(policy: &Policy, rules: &'a Rules, catalogs: &Catalogs, service: &str) -> Option<(&'a Rule, String)> {
    let (vendor, _) = service.split_once('/')?;
    let found = catalogs.find(service);
    let of_names = found
        .iter()
        .flat_map(|(_, service)| &service.entries)
        .filter(|entry| entry.hosts.iter().any(|host| host.prefix().is_none()));
    let wanted: Vec<PortMatch> = of_names.flat_map(|entry| &entry.ports).copied().collect();
    let of_vendor = catalogs.find(&format!("{vendor}/*"));
    let networks: Vec<IpNet> =
        of_vendor.iter().flat_map(|(_, service)| service.hosts()).filter_map(Host::prefix).collect();
    // A part of a network is likely one service's own.
    let is_whole = |net: &&IpNet| !networks.iter().any(|other| other != *net && other.contains(*net));
    rules.rules.iter().filter(|rule| rule.action == Action::Allow).find_map(|rule| {
        let Some(services) = &rule.services else { return Some((rule, "every address".into())) };
        let services = services.iter().map(|id| &policy.services[id.0 as usize]);
        services.filter(|service| meet(&service.ports, &wanted)).find_map(|service| {
            let holds = |net: &&IpNet| service.to.iter().any(|other| other.contains(*net));
            Some((rule, networks.iter().filter(is_whole).find(holds)?.to_string()))
        })
    })
}

/// Whether two port sets have a packet in common.
fn meet(a: &[PortMatch], b: &[PortMatch]) -> bool {
    let (a, b) = (ports::ranges(a), ports::ranges(b));
    a.iter().any(|(first, last)| b.iter().any(|(other, end)| first <= end && other <= last))
}
