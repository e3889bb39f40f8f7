//! Rules to clauses: one per rule and service, with its sets of destinations, sources and ports numbered.

use std::{borrow::Cow, collections::HashMap};

use enforcer_ebpf::abi::{Verdict, pseudo};
use ipnet::IpNet;

use super::{ports, samplings::Samplings};
use crate::policy::{Policy, PortMatch, RuleId, Rules, ScheduleId, ServiceId};

/// A set that holds everything.
pub const ANY: u32 = u32::MAX;
/// The state in which a client is not admitted by the portal, as a schedule: a moment of a policy with a portal is two, with it and without it.
pub const UNADMITTED: ScheduleId = ScheduleId(ANY - 1);

/// What a rule says of one service.
#[derive(Clone, Copy, Debug)]
pub struct Clause {
    /// Index into [`Clauses::destinations`], or [`ANY`].
    pub destination: u32,
    /// Index into [`Clauses::sources`], or [`ANY`].
    pub source: u32,
    /// Index into [`Clauses::ports`], or [`ANY`].
    pub ports: u32,
    /// Number of a schedule, [`UNADMITTED`]'s, or [`ANY`].
    pub when: u32,
    /// Action and counter.
    pub verdict: Verdict,
}

/// What a counter counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The rule.
    pub rule: RuleId,
    /// The service, if the rule names any.
    pub service: Option<ServiceId>,
}

/// A policy's rules, in order, over numbered sets.
#[derive(Default)]
pub struct Clauses<'a> {
    /// First match wins.
    pub clauses: Vec<Clause>,
    /// What the clauses' counters count, in the clauses' order.
    pub counted: Vec<Counted>,
    /// Destination prefixes by set.
    pub destinations: Vec<Cow<'a, [IpNet]>>,
    /// Source prefixes by set.
    pub sources: Vec<&'a [IpNet]>,
    /// Port cells by set.
    pub ports: Vec<Vec<(u32, u32)>>,
    /// Destination sets by service.
    pub by_service: HashMap<ServiceId, u32>,
    /// Whether any of those services has names.
    pub named: bool,
}

/// Numbers the rules' sets. The first clause's counter is `first_counter`; the caller has made sure that there are enough counters. `samplings` are the
/// numbers of sampling rates.
pub fn number<'a>(policy: &'a Policy, rules: &'a Rules, first_counter: u32, samplings: &mut Samplings) -> Clauses<'a> {
    let mut clauses = Clauses::default();
    let mut destinations: HashMap<ServiceId, (u32, u32)> = HashMap::new();
    let mut sources: HashMap<&[IpNet], u32> = HashMap::new();
    let mut port_sets: HashMap<Vec<(u32, u32)>, u32> = HashMap::new();
    for (index, rule) in rules.rules.iter().enumerate() {
        let source = rule.from.as_deref().map_or(ANY, |from| {
            *sources.entry(from).or_insert_with(|| {
                clauses.sources.push(from);
                clauses.sources.len() as u32 - 1
            })
        });
        let services = rule.services.as_ref().map_or_else(|| vec![None], |all| all.iter().copied().map(Some).collect());
        for service in services {
            let (destination, ports) = service.map_or((ANY, ANY), |service| {
                *destinations.entry(service).or_insert_with(|| {
                    let meant = &policy.services[service.0 as usize];
                    clauses.destinations.push(policy.destinations(meant));
                    clauses.named |= !meant.names.is_empty();
                    let ports = if meant.ports.contains(&PortMatch::Any) {
                        ANY
                    } else {
                        let ranges = ports::ranges(&meant.ports);
                        let next = port_sets.len() as u32;
                        *port_sets.entry(ranges.clone()).or_insert_with(|| {
                            clauses.ports.push(ranges);
                            next
                        })
                    };
                    (clauses.destinations.len() as u32 - 1, ports)
                })
            });
            let (counter, when) = if rule.closes() {
                // It is nobody's but the portal's.
                (pseudo::UNADMITTED, UNADMITTED.0)
            } else {
                clauses.counted.push(Counted { rule: RuleId(index as u32), service });
                let counter = first_counter + clauses.counted.len() as u32 - 1;
                (counter, rule.when.map_or(ANY, |schedule| schedule.0))
            };
            let verdict = samplings.mark(Verdict::new(policy.effect(rule), counter), rule.log);
            clauses.clauses.push(Clause { destination, source, ports, when, verdict });
        }
    }
    clauses.by_service = destinations.into_iter().map(|(service, (destination, _))| (service, destination)).collect();
    clauses
}

/// How many clauses the rules make.
pub fn count(rules: &Rules) -> usize {
    rules.rules.iter().map(|rule| rule.services.as_ref().map_or(1, Vec::len)).sum()
}
