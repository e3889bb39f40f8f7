//! Names that are no addresses yet, and that the rules of two policies speak of differently.

use std::collections::{BTreeMap, BTreeSet};

use super::{NameChange, parts, prefixes};
use crate::{
    catalog::Pattern,
    policy::{Policy, Rules, words},
};

/// What rules say of a name, in order: in effect, and for people.
type Said = Vec<(String, String)>;

/// A service, and what the old and the new rules say of its names.
type Alike<'a> = (&'a str, Option<&'a Said>, Option<&'a Said>);

/// All differences.
pub fn changes(old: &Policy, new: &Policy) -> Vec<NameChange> {
    let mut changes = Vec::new();
    for ((policy, old_rules), (_, new_rules)) in parts(old).into_iter().zip(parts(new)) {
        let (old, new) = (said(old, old_rules), said(new, new_rules));
        let mut alike: BTreeMap<Alike<'_>, Vec<String>> = BTreeMap::new();
        let names: BTreeSet<&(&str, &Pattern)> = old.keys().chain(new.keys()).collect();
        for key @ (service, name) in names {
            let effect = |said: Option<&Said>| {
                said.map(|said| said.iter().map(|(effect, _)| effect.clone()).collect::<Vec<_>>())
            };
            if effect(old.get(key)) != effect(new.get(key)) {
                alike.entry((service, old.get(key), new.get(key))).or_default().push(name.to_string());
            }
        }
        let text = |said: &Said| said.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>().join(", then ");
        changes.extend(alike.into_iter().map(|((service, old, new), names)| NameChange {
            policy,
            service: service.to_owned(),
            names,
            old: old.map(text),
            new: new.map(text),
        }));
    }
    changes
}

/// What the rules say of each service's names, up to the first rule that holds for everybody and always.
fn said<'a>(policy: &'a Policy, rules: &'a Rules) -> BTreeMap<(&'a str, &'a Pattern), Said> {
    let mut services: BTreeMap<&str, (bool, Said)> = BTreeMap::new();
    for rule in &rules.rules {
        let mut limits = rule.from.as_ref().map_or_else(String::new, |from| {
            let mut from = from.clone();
            from.sort_unstable();
            format!(" from {}", prefixes(&from))
        });
        if let Some(schedule) = rule.when.map(|id| &policy.schedules[id.0 as usize]) {
            // The times themselves: two policies may mean different ones by a name.
            limits += &format!(" at {} {:?} of {}", schedule.name, schedule.times, schedule.zone);
        }
        let action = words::name(policy.effect(rule));
        for service in &rule.unresolved {
            let (closed, said) = services.entry(service).or_default();
            if !*closed {
                said.push((format!("{action}{limits}"), format!("{action} (rule {}){limits}", rule.label())));
                *closed = limits.is_empty();
            }
        }
    }
    let named = services.into_iter().flat_map(|(service, (_, said))| {
        let names = policy.unresolved.get(service).into_iter().flatten();
        names.map(move |name| ((service, name), said.clone()))
    });
    named.collect()
}
