//! Rules, and services of rules, that no packet reaches.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Advice, called, listed, several};
use crate::{
    flows::{Clause, Plane, Side, Space, TooMuch},
    policy::{Policy, Rules},
};

/// More earlier rules than these are not looked for.
const MOST: usize = 5;

/// Warnings about rules that never match, or not by all of their services.
pub fn rules(policy: &Policy, rules: &Rules) -> Result<Vec<Advice>, TooMuch> {
    let space = Space::new([(policy, rules)]);
    let [side] = &space.sides;
    let mut planes = space.planes()?;
    let mut alive = vec![false; side.clauses.len()];
    for plane in &mut planes {
        mark(plane, side, &mut alive)?;
    }
    // Where a service's names lead is not known: only what is as wide takes all of it.
    for (index, clause) in side.clauses.iter().enumerate() {
        let named = clause.service.is_some_and(|id| !policy.services[id.0 as usize].names.is_empty());
        alive[index] |= named && !side.clauses[..index].iter().any(|other| other.is_as_wide_as(clause));
    }
    let mut of_rule: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (index, clause) in side.clauses.iter().enumerate() {
        of_rule.entry(clause.rule.0 as usize).or_default().push(index as u32);
    }
    let mut advice = Vec::new();
    for (id, clauses) in of_rule {
        let dead: Vec<u32> = clauses.iter().copied().filter(|&clause| !alive[clause as usize]).collect();
        if dead.is_empty() {
            continue;
        }
        let mut earlier = BTreeSet::new();
        for &clause in &dead {
            takers(&mut planes, side, clause, &mut earlier)?;
        }
        let rule = &rules.rules[id];
        let services: Vec<String> = dead
            .iter()
            .filter_map(|&clause| side.clauses[clause as usize].service)
            .map(|service| policy.services[service.0 as usize].name.clone())
            .collect();
        let subject = if dead.len() == clauses.len() {
            format!("{} never matches", called(rule))
        } else {
            format!("{} never matches by {}", called(rule), listed(&services))
        };
        advice.push(if earlier.is_empty() {
            let help = "sources, services and times must have packets in common: IPv4 or IPv6, ICMP or ICMPv6, some minute of the week";
            Advice::new(Some(rule), format!("{subject}: no packet could"), help)
        } else if earlier.iter().eq([&id]) {
            let message = format!("{subject}: its services before take all such packets");
            Advice::new(Some(rule), message, "leave out what others hold, or put the narrower service first")
        } else {
            let message = format!("{subject}: all such packets are taken before, by {}", several(rules, earlier.into_iter()));
            Advice::new(Some(rule), message, "move it up, or take it out")
        });
    }
    Ok(advice)
}

/// Marks the clauses that decide about some packet.
fn mark(plane: &mut Plane, side: &Side, alive: &mut [bool]) -> Result<(), TooMuch> {
    // The places in a list of those that do; the same for all lists that ask the same.
    let mut known: HashMap<Vec<u32>, Vec<u32>> = HashMap::new();
    for (_, sets) in plane.destinations() {
        let list = plane.list(side, &sets)?;
        let pattern: Vec<u32> = list.iter().map(|&index| side.clauses[index as usize].shapes[1]).collect();
        if !known.contains_key(&pattern) {
            let mut deciding = BTreeSet::new();
            let lists = [list.clone()];
            plane.first_matches([&side.clauses], &lists, None, &mut |_, [first]| {
                deciding.extend(first.and_then(|first| lists[0].binary_search(&first).ok()));
            })?;
            known.insert(pattern.clone(), deciding.into_iter().map(|place| place as u32).collect());
        }
        known[&pattern].iter().for_each(|&place| alive[list[place as usize] as usize] = true);
    }
    Ok(())
}

/// Adds the rules that take the packets of a clause before it, until there are too many to tell.
fn takers(planes: &mut [Plane], side: &Side, dead: u32, rules: &mut BTreeSet<usize>) -> Result<(), TooMuch> {
    let clauses: &[Clause] = &side.clauses;
    let clause = &clauses[dead as usize];
    if let Some(wider) = clauses[..dead as usize].iter().find(|other| other.is_as_wide_as(clause)) {
        rules.insert(wider.rule.0 as usize);
        return Ok(());
    }
    for plane in planes {
        for (_, sets) in plane.destinations() {
            let all = side.list(&sets);
            if rules.len() > MOST || all.binary_search(&dead).is_err() {
                continue;
            }
            let earlier = all.into_iter().filter(|&index| index < dead).collect();
            let lists = [earlier, vec![dead]];
            plane.first_matches([clauses, clauses], &lists, Some(&|list, _| list == 1), &mut |_, first| {
                if let [Some(taker), Some(_)] = first {
                    rules.insert(clauses[taker as usize].rule.0 as usize);
                }
            })?;
        }
    }
    Ok(())
}
