//! Services of catalogues that a policy opens without naming them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Advice, called, listed};
use crate::{
    catalog::{self, Catalogs, Host},
    flows::{Space, TooMuch},
    policy::{Action, Policy, Rule, Rules, Service, ServiceId},
};

/// Warnings about clients' rules that open all addresses and ports of a further service, of a vendor of whom the policy names others. Of services'
/// names nothing is said: where they lie is not known.
pub fn services(policy: &Policy, catalogs: &Catalogs) -> Result<Vec<Advice>, TooMuch> {
    let (names, asked, asked_rules) = unnamed(policy, catalogs);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let space = Space::new([(policy, &policy.lan), (&asked, &asked_rules)]);
    let clauses = [0, 1].map(|side: usize| &space.sides[side].clauses[..]);
    let mut by: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
    let mut closed = BTreeSet::new();
    for plane in &mut space.planes()? {
        for (_, sets) in plane.destinations() {
            let mut of_service: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
            for clause in space.sides[1].list(&sets) {
                of_service.entry(clauses[1][clause as usize].rule.0 as usize).or_default().push(clause);
            }
            for (service, list) in of_service {
                let lists = [plane.list(&space.sides[0], &sets)?, list];
                let mut cells = Vec::new();
                plane.first_matches(clauses, &lists, Some(&|list, _| list == 1), &mut |cell, first| {
                    let [first, asked] = first;
                    cells.extend(asked.map(|_| (cell, first)));
                })?;
                // Each port must be open to somebody at some time.
                let (mut open, mut all): (BTreeSet<u32>, BTreeSet<u32>) = (BTreeSet::new(), BTreeSet::new());
                for (cell, first) in cells {
                    let ports = plane.ports(cell);
                    all.extend(ports);
                    if let Some(clause) = first.map(|first| &clauses[0][first as usize])
                        && clause.action == Action::Allow
                    {
                        open.extend(ports);
                        by.entry(service).or_default().insert(clause.rule.0);
                    }
                }
                if open != all {
                    closed.insert(service);
                }
            }
        }
    }
    let mut opened: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (service, rules) in by.into_iter().filter(|(service, _)| !closed.contains(service)) {
        rules.iter().take(1).for_each(|&rule| opened.entry(rule).or_default().push(names[service].clone()));
    }
    let advice = opened.into_iter().map(|(rule, names)| {
        let rule = &policy.lan.rules[rule as usize];
        let message = format!("{} also opens {}, which no rule names", called(rule), listed(&names));
        Advice::new(
            Some(rule),
            message,
            "name what is meant; if it is not, give the rule services with fewer prefixes or ports",
        )
    });
    Ok(advice.collect())
}

/// Services with prefixes that no rule names, of vendors of whom a rule names another: their names, and a policy with a rule for each.
fn unnamed(policy: &Policy, catalogs: &Catalogs) -> (Vec<String>, Policy, Rules) {
    let named: BTreeSet<&str> = policy.services.iter().map(|service| service.name.as_str()).collect();
    let vendors: BTreeSet<&str> = named.iter().filter_map(|name| Some(name.split_once('/')?.0)).collect();
    let (mut names, mut services, mut rules) = (Vec::new(), Vec::new(), Vec::new());
    for vendor in vendors {
        for (_, service) in catalogs.find(&format!("{vendor}/*")) {
            let name = format!("{vendor}/{}", service.name);
            if named.contains(name.as_str()) {
                continue;
            }
            let own: Vec<Service> = service.entries.iter().filter_map(|entry| addresses(&name, entry)).collect();
            if !own.is_empty() {
                let ids = (services.len()..services.len() + own.len()).map(|id| ServiceId(id as u32)).collect();
                services.extend(own);
                rules.push(Rule { services: Some(ids), ..Rule::new(Action::Allow) });
                names.push(name);
            }
        }
    }
    let asked = Policy { services, nat64: policy.nat64.clone(), ..Policy::default() };
    (names, asked, Rules { default: Action::Drop, rules })
}

/// What is known by address of an entry.
fn addresses(name: &str, entry: &catalog::Entry) -> Option<Service> {
    let to: Vec<_> = entry.hosts.iter().filter_map(Host::prefix).collect();
    let ports = entry.ports.clone();
    (!to.is_empty()).then(|| Service { name: name.to_owned(), to, names: Vec::new(), ports })
}
