//! Flows that change their verdict.

use std::collections::{BTreeMap, HashMap};

use super::{Change, Decision, Flows, is_everything, parts};
use crate::{
    flows::{Cell, Clause, Plane, Side, Space, TooMuch},
    policy::{Action, Policy, Rules, words},
};

/// Old and new: the clause that decides, or none if it is the default.
type Deciding = [Option<u32>; 2];

/// Cells by the clauses that decide about them.
type Changed = BTreeMap<Deciding, Vec<Cell>>;

/// All changes of verdicts, the LAN's, the router's and the inbound policy's.
pub fn changes(old: &Policy, new: &Policy) -> Result<Vec<Change>, TooMuch> {
    let mut changes = Vec::new();
    for ((name, old_rules), (_, new_rules)) in parts(old).into_iter().zip(parts(new)) {
        let sides = [(old, old_rules), (new, new_rules)];
        let Space { sides: clauses, mut planes } = Space::new(sides)?;
        let defaults = sides.map(|(policy, rules)| policy.watched(rules.default));
        let mut found: BTreeMap<Deciding, Vec<Flows>> = BTreeMap::new();
        for plane in &mut planes {
            for (deciding, cells) in changed(plane, &clauses, defaults)? {
                let flows = found.entry(deciding).or_default();
                for cell in plane.join(cells) {
                    let (to, ports, from, when) = plane.words(cell);
                    add(flows, Flows { to, ports, from, when });
                }
            }
        }
        changes.extend(found.into_iter().map(|(deciding, flows)| {
            let decision = |side: usize| {
                let (policy, rules) = sides[side];
                decision(policy, rules, deciding[side].map(|clause| &clauses[side].clauses[clause as usize]))
            };
            Change { policy: name, old: decision(0), new: decision(1), flows }
        }));
    }
    Ok(changes)
}

/// The cells of one family whose verdict changes.
fn changed(plane: &mut Plane, sides: &[Side; 2], defaults: [Action; 2]) -> Result<Changed, TooMuch> {
    let clauses = [&sides[0].clauses[..], &sides[1].clauses[..]];
    let clause = |side: usize, index: u32| &clauses[side][index as usize];
    let verdict = |side: usize, first: Option<u32>| first.map_or(defaults[side], |index| clause(side, index).action);
    // Lists that say the same on what is left of the axes give the same verdicts.
    let dull = |lists: &[Vec<u32>; 2], axis: usize| {
        let alike = |(&old, &new): (&u32, &u32)| {
            let (old, new) = (clause(0, old), clause(1, new));
            old.action == new.action && old.sets[axis..] == new.sets[axis..]
        };
        let [old, new] = lists;
        defaults[0] == defaults[1] && old.len() == new.len() && old.iter().zip(new).all(alike)
    };
    let mut changed = Changed::new();
    // What is found for lists holds for all that are alike, by place in them.
    let mut known: HashMap<[Vec<([u32; 3], Action)>; 2], Vec<(Cell, Deciding)>> = HashMap::new();
    for (class, sets) in plane.destinations() {
        let lists = [plane.list(&sides[0], &sets)?, plane.list(&sides[1], &sets)?];
        if dull(&lists, 1) {
            continue;
        }
        let pattern = [0, 1].map(|side: usize| {
            let asked = lists[side].iter().map(|&index| {
                let Clause { sets: [_, from, ports, time], action, .. } = *clause(side, index);
                ([from, ports, time], action)
            });
            asked.collect()
        });
        if !known.contains_key(&pattern) {
            let place = |side: usize, first: Option<u32>| {
                first.and_then(|index| lists[side].binary_search(&index).ok()).map(|place| place as u32)
            };
            let mut found = Vec::new();
            plane.first_matches(clauses, lists.clone(), &dull, &mut |cell, first| {
                if verdict(0, first[0]) != verdict(1, first[1]) {
                    found.push((cell, [place(0, first[0]), place(1, first[1])]));
                }
            })?;
            known.insert(pattern.clone(), found);
        }
        let alone = plane.alone(class);
        for (cell, [old, new]) in &known[&pattern] {
            let mut cell = *cell;
            cell[0] = alone;
            let index = |side: usize, place: Option<u32>| place.map(|place| lists[side][place as usize]);
            changed.entry([index(0, *old), index(1, *new)]).or_default().push(cell);
        }
    }
    Ok(changed)
}

/// Adds flows, those of IPv6 to those of IPv4 that are the same otherwise and from anybody.
fn add(all: &mut Vec<Flows>, flows: Flows) {
    let alike = |other: &&mut Flows| {
        other.ports == flows.ports
            && other.when == flows.when
            && is_everything(&other.from)
            && is_everything(&flows.from)
            && other.from != flows.from
    };
    if let Some(other) = all.iter_mut().find(alike).filter(|other| other.from.len() == 1) {
        other.to.extend(flows.to);
        other.from.extend(flows.from);
    } else {
        all.push(flows);
    }
}

fn decision(policy: &Policy, rules: &Rules, clause: Option<&Clause>) -> Decision {
    let Some(clause) = clause else {
        let action = words::name(policy.watched(rules.default));
        return Decision { action, rule: None, line: None, service: None };
    };
    let rule = &rules.rules[clause.rule.0 as usize];
    let service = clause.service.map(|id| policy.services[id.0 as usize].name.clone());
    Decision { action: words::name(clause.action), rule: Some(rule.label()), line: Some(rule.line), service }
}
