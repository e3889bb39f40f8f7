//! What a policy answers to a client's question.
//!
//! A name is *denied* to a client if the first rule that speaks of it denies, and no later one allows, by a service with that name, a port that is not
//! denied by then. A rule speaks of the names of its services; without services, of all. A denial by name is meant for the name: what is allowed
//! without naming it, such as a prefix that its addresses lie in, or everything, does not take it back.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{Name, Patterns};
use crate::{
    compile::ports,
    policy::{Action, Decision, Dns, Policy, PortMatch, Rule, ScheduleId, Service, ServiceId},
};

/// The clients' rules as far as they speak of names.
pub struct DnsPolicy {
    dns: Dns,
    patterns: Patterns<ServiceId>,
    named: BTreeMap<ServiceId, Named>,
    /// Rules that speak of every name, in order.
    at_large: Vec<usize>,
    rules: Vec<Applies>,
}

/// A service with names.
struct Named {
    /// Rules that speak of it, in order.
    rules: Vec<usize>,
    /// Cells of the port table, disjoint and sorted.
    ports: Vec<ports::Range>,
}

/// A rule: to whom, when, and what.
struct Applies {
    /// Disjoint and sorted; `None` is everybody.
    from: Option<Vec<IpNet>>,
    when: Option<ScheduleId>,
    /// Packets pass: it allows, or only watches.
    passes: bool,
}

/// How a name is with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Allowed,
    Denied,
    Unnamed,
}

impl DnsPolicy {
    /// Of a policy's rules about clients. One that only watches denies no name either.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        let mut named: BTreeMap<ServiceId, Named> = BTreeMap::new();
        let mut at_large = Vec::new();
        // Clients are answered as if they were admitted: what they may send is judged all the same, and a station's addresses need not be known.
        let rules = policy.lan.rules.iter().enumerate().filter(|(_, rule)| !rule.closes());
        for (index, rule) in rules {
            let passes = passes(policy, rule);
            let services = rule.services.iter().flatten().map(|id| (*id, &policy.services[id.0 as usize]));
            if rule.services.is_none() || services.clone().any(|(_, service)| is_everything(service, passes)) {
                at_large.push(index);
            }
            for (id, service) in services.filter(|(_, service)| !service.names.is_empty()) {
                let ports = || Named { rules: Vec::new(), ports: ports::ranges(&service.ports) };
                named.entry(id).or_insert_with(ports).rules.push(index);
            }
        }
        let patterns =
            named.keys().flat_map(|id| policy.services[id.0 as usize].names.iter().map(|name| (name.clone(), *id)));
        let applies = |rule: &Rule| Applies {
            from: rule.from.as_ref().map(IpNet::aggregate),
            when: rule.when,
            passes: passes(policy, rule),
        };
        Self {
            dns: if policy.monitor { Dns::default() } else { policy.dns },
            patterns: patterns.collect(),
            named,
            at_large,
            rules: policy.lan.rules.iter().map(applies).collect(),
        }
    }

    /// What becomes of a client's question for a name while some schedules apply.
    #[must_use]
    pub fn decide(&self, client: IpAddr, name: &Name, schedules: &[ScheduleId]) -> Decision {
        if self.dns == Dns::default() {
            return Decision::Forward;
        }
        match self.standing(client, name, schedules) {
            Standing::Allowed => Decision::Forward,
            Standing::Denied => self.dns.denied,
            Standing::Unnamed => self.dns.unnamed,
        }
    }

    fn standing(&self, client: IpAddr, name: &Name, schedules: &[ScheduleId]) -> Standing {
        let services = self.patterns.matches(name).filter_map(|id| self.named.get(id));
        let mut lists: Vec<(Option<&Named>, &[usize])> =
            services.map(|named| (Some(named), &named.rules[..])).collect();
        // Behind the others: of one rule, what it says by name counts first.
        lists.push((None, &self.at_large));
        let mut denied: Vec<ports::Range> = Vec::new();
        while let Some((named, index)) = next(&mut lists) {
            let rule = &self.rules[index];
            if !rule.applies(client, schedules) {
                continue;
            }
            match (named, rule.passes) {
                (None, true) if denied.is_empty() => return Standing::Allowed,
                (None, true) => {}
                (None, false) if denied.is_empty() && is_no_host(name) => return Standing::Unnamed,
                (None, false) => return Standing::Denied,
                (Some(Named { ports, .. }), true) => {
                    if !ports.iter().all(|port| denied.iter().any(|range| range.0 <= port.0 && port.1 <= range.1)) {
                        return Standing::Allowed;
                    }
                }
                (Some(Named { ports, .. }), false) => denied = ports::merged([denied, ports.clone()].concat()),
            }
        }
        if denied.is_empty() { Standing::Unnamed } else { Standing::Denied }
    }
}

impl Applies {
    fn applies(&self, client: IpAddr, schedules: &[ScheduleId]) -> bool {
        self.when.is_none_or(|when| schedules.contains(&when))
            && self.from.as_ref().is_none_or(|from| {
                let behind = from.partition_point(|net| net.network() <= client);
                from[..behind].last().is_some_and(|net| net.contains(&client))
            })
    }
}

/// Takes the lists' next rule from one that has it.
fn next<'a>(lists: &mut [(Option<&'a Named>, &[usize])]) -> Option<(Option<&'a Named>, usize)> {
    let (named, rules) = lists.iter_mut().filter(|(_, rules)| !rules.is_empty()).min_by_key(|(_, rules)| rules[0])?;
    let (first, rest) = rules.split_first()?;
    *rules = rest;
    Some((*named, *first))
}

fn passes(policy: &Policy, rule: &Rule) -> bool {
    matches!(policy.effect(rule), Action::Allow | Action::Monitor)
}

/// Whether a service speaks of every name: wherever addresses are, something of them passes, or nothing does.
fn is_everything(service: &Service, passes: bool) -> bool {
    let families =
        [false, true].map(|v6| service.to.iter().any(|net| net.prefix_len() == 0 && net.addr().is_ipv6() == v6));
    if passes { families[0] || families[1] } else { families == [true; 2] && service.ports.contains(&PortMatch::Any) }
}

/// Whether a name is the root or an address's, of which rules without services do not speak.
fn is_no_host(name: &Name) -> bool {
    let mut labels = name.labels();
    match labels.next() {
        None => true,
        Some(top) => top == b"arpa" && matches!(labels.next(), Some(b"in-addr" | b"ip6")),
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
