//! What a policy defines and no rule uses.

use std::collections::BTreeSet;

use super::Advice;
use crate::policy::Policy;

/// Warnings about services and schedules of the policy's own.
pub fn services_and_schedules(policy: &Policy) -> Vec<Advice> {
    let rules = || [&policy.lan, &policy.router, &policy.inbound].into_iter().flat_map(|rules| &rules.rules);
    let services: BTreeSet<u32> = rules().filter_map(|rule| rule.services.as_ref()).flatten().map(|id| id.0).collect();
    let schedules: BTreeSet<u32> = rules().filter_map(|rule| rule.when).map(|id| id.0).collect();
    // Of a catalogue's services that proxies take, rules need not allow all.
    let is_taken = |name: &str| name.contains('/') && !policy.proxies.is_empty();
    let unused = |kind, names: &mut dyn Iterator<Item = &String>, used: &BTreeSet<u32>| -> Vec<Advice> {
        let unused = names.enumerate().filter(|(id, name)| !used.contains(&(*id as u32)) && !is_taken(name));
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
