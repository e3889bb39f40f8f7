//! What a policy defines and no rule uses.

use std::collections::BTreeSet;

use super::Advice;
use crate::{catalog::Catalogs, policy::Policy};

/// Warnings about services and schedules of the policy's own.
pub fn services_and_schedules(policy: &Policy, catalogs: &Catalogs) -> Vec<Advice> {
    let rules = || [&policy.lan, &policy.router, &policy.inbound].into_iter().flat_map(|rules| &rules.rules);
    let services: BTreeSet<u32> = rules().filter_map(|rule| rule.services.as_ref()).flatten().map(|id| id.0).collect();
    let schedules: BTreeSet<u32> = rules().filter_map(|rule| rule.when).map(|id| id.0).collect();
    // Those of a catalogue are there by a proxy's word: of what it takes, rules need not allow all.
    let is_own = |name: &str| {
        let whole =
            name.rsplit_once('.').filter(|(_, part)| part.parse::<u32>().is_ok()).map_or(name, |(whole, _)| whole);
        catalogs.find(whole).is_empty()
    };
    let unused = |kind, names: &mut dyn Iterator<Item = &String>, used: &BTreeSet<u32>| -> Vec<Advice> {
        let unused = names.enumerate().filter(|(id, name)| !used.contains(&(*id as u32)) && is_own(name));
        unused
            .map(|(_, name)| {
                Advice::new(None, format!("no rule uses {kind} {name}"), "name it in a rule, or take it out")
            })
            .collect()
    };
    let mut advice = unused("service", &mut policy.services.iter().map(|service| &service.name), &services);
    advice.extend(unused("schedule", &mut policy.schedules.iter().map(|schedule| &schedule.name), &schedules));
    advice
}
