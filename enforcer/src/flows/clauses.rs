//! Rules to clauses over numbered sets, of several policies at once, so that equal sets are equal numbers.

use std::{collections::HashMap, hash::Hash, ops::Range};

use ipnet::IpNet;

use super::{shapes::Shapes, times};
use crate::{
    compile::ports,
    policy::{Action, Policy, PortMatch, RuleId, Rules, Schedule, ServiceId, model::WEEK},
};

/// A set that holds everything.
pub const ANY: u32 = u32::MAX;

/// The axes of the space: destination, source, ports and time.
pub const AXES: usize = 4;

/// What a clause asks of each axis: a number of [`Numbered`], or [`ANY`].
pub type Sets = [u32; AXES];

/// What a rule says of one service.
#[derive(Clone, Copy, Debug)]
pub struct Clause {
    /// Whose packets these are.
    pub sets: Sets,
    /// For each axis, the number of what is asked of it and those behind it: equal numbers ask the same, also those of two policies.
    pub shapes: [u32; AXES],
    /// What its packets meet.
    pub action: Action,
    /// The rule.
    pub rule: RuleId,
    /// The service, if the rule names any.
    pub service: Option<ServiceId>,
}

impl Clause {
    /// Whether it holds all that another one does, as far as the sets' numbers tell.
    #[must_use]
    pub fn is_as_wide_as(&self, other: &Self) -> bool {
        self.sets.iter().zip(other.sets).all(|(&own, other)| own == ANY || own == other)
    }
}

/// The clauses of one policy; the first that matches decides.
#[derive(Default)]
pub struct Side {
    /// In the order of the rules.
    pub clauses: Vec<Clause>,
    /// Clauses by destination set, in order.
    by_destination: Vec<Vec<u32>>,
    /// Those about any destination.
    anywhere: Vec<u32>,
}

impl Side {
    /// The clauses that speak of a destination in these sets, in order.
    pub fn list(&self, destinations: &[u32]) -> Vec<u32> {
        let mut list = self.anywhere.clone();
        for &set in destinations {
            list.extend(self.by_destination.get(set as usize).into_iter().flatten());
        }
        list.sort_unstable();
        list
    }

    /// Makes the next clause one that is found by its destination set.
    fn find_by(&mut self, destination: u32) {
        let next = self.clauses.len() as u32;
        if destination == ANY {
            self.anywhere.push(next);
            return;
        }
        let set = destination as usize;
        self.by_destination.resize(self.by_destination.len().max(set + 1), Vec::new());
        self.by_destination[set].push(next);
    }
}

/// The sets that clauses speak of.
#[derive(Default)]
pub struct Numbered {
    /// Destination prefixes.
    pub destinations: Vec<Vec<IpNet>>,
    /// Source prefixes.
    pub sources: Vec<Vec<IpNet>>,
    /// Cells of the port table.
    pub ports: Vec<Vec<Range<u32>>>,
    /// Zones and minutes of their weeks.
    pub times: Vec<(String, Vec<Range<u32>>)>,
}

/// The number of a set, a new one if it is new.
fn number<T: Clone + Eq + Hash>(numbers: &mut HashMap<T, u32>, sets: &mut Vec<T>, set: T) -> u32 {
    *numbers.entry(set).or_insert_with_key(|set| {
        sets.push(set.clone());
        sets.len() as u32 - 1
    })
}

/// Prefixes in order, each once; nothing if they are all there are.
fn prefixes(nets: &[IpNet]) -> Option<Vec<IpNet>> {
    let whole = |v6| nets.iter().any(|net| net.prefix_len() == 0 && net.addr().is_ipv6() == v6);
    if whole(false) && whole(true) {
        return None;
    }
    let mut nets = nets.to_vec();
    nets.sort_unstable();
    nets.dedup();
    Some(nets)
}

fn minutes(schedule: &Schedule) -> Option<(String, Vec<Range<u32>>)> {
    let times: Vec<Range<u32>> = schedule.times.iter().map(|time| time.start.into()..time.end.into()).collect();
    (times.first() != Some(&(0..WEEK.into()))).then(|| (schedule.zone.clone(), times))
}

/// Numbers the sets and shapes of all sides together.
pub fn numbered(sides: &[(&Policy, &Rules)]) -> (Vec<Side>, Numbered, Shapes) {
    let mut all = Numbered::default();
    let (mut destinations, mut sources) = (HashMap::new(), HashMap::new());
    let (mut port_sets, mut times) = (HashMap::new(), HashMap::new());
    let mut made = Vec::new();
    for (policy, rules) in sides {
        let mut side = Side::default();
        let mut services: HashMap<ServiceId, (u32, u32)> = HashMap::new();
        for (index, rule) in rules.rules.iter().enumerate() {
            let source = rule
                .from
                .as_deref()
                .and_then(prefixes)
                .map_or(ANY, |nets| number(&mut sources, &mut all.sources, nets));
            let admission = rule.closes().then(|| (times::ADMISSION.into(), vec![times::UNADMITTED]));
            let time = rule
                .when
                .and_then(|id| minutes(&policy.schedules[id.0 as usize]))
                .or(admission)
                .map_or(ANY, |time| number(&mut times, &mut all.times, time));
            let named =
                rule.services.as_ref().map_or_else(|| vec![None], |ids| ids.iter().copied().map(Some).collect());
            for service in named {
                let (destination, ports) = service.map_or((ANY, ANY), |id| {
                    *services.entry(id).or_insert_with(|| {
                        let meant = &policy.services[id.0 as usize];
                        let destination = prefixes(&policy.destinations(meant)).map_or(ANY, |nets| {
                            // Sets with names are others, whatever prefixes they have.
                            *destinations.entry((nets, &meant.names)).or_insert_with_key(|(nets, _)| {
                                all.destinations.push(nets.clone());
                                all.destinations.len() as u32 - 1
                            })
                        });
                        let cells = || ports::ranges(&meant.ports).into_iter().map(|(first, last)| first..last + 1);
                        let ports = if meant.ports.contains(&PortMatch::Any) {
                            ANY
                        } else {
                            number(&mut port_sets, &mut all.ports, cells().collect())
                        };
                        (destination, ports)
                    })
                });
                side.find_by(destination);
                let sets = [destination, source, ports, time];
                let (action, rule) = (policy.effect(rule), RuleId(index as u32));
                side.clauses.push(Clause { sets, shapes: [0; AXES], action, rule, service });
            }
        }
        made.push(side);
    }
    let shapes = Shapes::number(made.iter_mut().flat_map(|side| &mut side.clauses));
    (made, all, shapes)
}
