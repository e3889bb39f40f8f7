//! Flows that change their verdict.

use std::collections::{BTreeMap, HashMap};

use super::{Change, Decision, Flows, align, is_everything, parts};
use crate::{
    flows::{Cell, Clause, Plane, Ports, Side, Space, TooMuch, is_wanted},
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
        let space = Space::new(sides);
        let clauses = [0, 1].map(|side: usize| &space.sides[side].clauses[..]);
        let defaults = sides.map(|(policy, rules)| policy.watched(rules.default));
        let fresh = align::fresh(clauses);
        if defaults[0] == defaults[1] && !fresh.iter().flatten().any(|&fresh| fresh) {
            continue;
        }
        let mut found: BTreeMap<Deciding, Joined> = BTreeMap::new();
        for plane in &mut space.planes()? {
            for (deciding, cells) in changed(plane, &space.sides, &fresh, defaults)? {
                let flows = found.entry(deciding).or_default();
                for cell in plane.join(cells) {
                    let (to, ports, from, when) = plane.words(cell);
                    flows.add(Flows { to, ports, from, when });
                }
            }
        }
        changes.extend(found.into_iter().map(|(deciding, Joined { flows, .. })| {
            let decision = |side: usize| {
                let (policy, rules) = sides[side];
                decision(policy, rules, deciding[side].map(|clause| &clauses[side][clause as usize]))
            };
            Change { policy: name, old: decision(0), new: decision(1), flows }
        }));
    }
    Ok(changes)
}

/// The cells of one family whose verdict changes.
fn changed(
    plane: &mut Plane,
    sides: &[Side; 2],
    fresh: &[Vec<bool>; 2],
    defaults: [Action; 2],
) -> Result<Changed, TooMuch> {
    let clauses = [&sides[0].clauses[..], &sides[1].clauses[..]];
    let clause = |side: usize, index: u32| &clauses[side][index as usize];
    let verdict = |side: usize, first: Option<u32>| first.map_or(defaults[side], |index| clause(side, index).action);
    let is_fresh = |side: usize, index: u32| fresh[side][index as usize];
    // Where defaults differ, no clause needs to.
    let wanted: Option<&dyn Fn(usize, u32) -> bool> = (defaults[0] == defaults[1]).then_some(&is_fresh);
    let mut changed = Changed::new();
    // What is found for lists holds for all that are alike, by place in them. One number for each clause is hashed fastest.
    let mut known: HashMap<[Vec<u64>; 2], Vec<(Cell, Deciding)>> = HashMap::new();
    for (class, sets) in plane.destinations() {
        let lists = [plane.list(&sides[0], &sets)?, plane.list(&sides[1], &sets)?];
        if !is_wanted(&lists, wanted) {
            continue;
        }
        let pattern = [0, 1].map(|side: usize| {
            let asked = lists[side].iter().map(|&index| {
                let Clause { shapes, action, .. } = *clause(side, index);
                u64::from(shapes[1]) << 32 | (action as u64) << 1 | u64::from(is_fresh(side, index))
            });
            asked.collect()
        });
        if !known.contains_key(&pattern) {
            let place = |side: usize, first: Option<u32>| {
                first.and_then(|index| lists[side].binary_search(&index).ok()).map(|place| place as u32)
            };
            let mut found = Vec::new();
            plane.first_matches(clauses, &lists, wanted, &mut |cell, first| {
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

/// Flows of both families.
#[derive(Default)]
struct Joined {
    flows: Vec<Flows>,
    /// Those from anybody, by all but the destination.
    from_anybody: HashMap<(Ports, Vec<String>), usize>,
}

impl Joined {
    /// Adds flows, those of IPv6 to those of IPv4 that are the same otherwise and from anybody.
    fn add(&mut self, flows: Flows) {
        if is_everything(&flows.from) {
            let next = self.flows.len();
            let index = *self.from_anybody.entry((flows.ports.clone(), flows.when.clone())).or_insert(next);
            if let Some(other) = self.flows.get_mut(index) {
                other.to.extend(flows.to);
                other.from.extend(flows.from);
                return;
            }
        }
        self.flows.push(flows);
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
