//! Names whose addresses' flows change their verdict, wherever the addresses may be.
//!
//! Each name stands for an address of its own, which is a destination of the services that have it: so the comparison of flows compares names.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::{Flows, NameChange, flows};
use crate::{
    catalog::Pattern,
    dns::Patterns,
    flows::TooMuch,
    policy::{Policy, Service},
};

/// All changes of verdicts in which services with names have a part.
pub fn changes(old: &Policy, new: &Policy) -> Result<Vec<NameChange>, TooMuch> {
    let names: BTreeSet<&Pattern> =
        [old, new].iter().flat_map(|policy| &policy.services).flat_map(|s| &s.names).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&Pattern> = names.into_iter().collect();
    let mut changes = Vec::new();
    for change in flows::changes(&standing_for(old, &names), &standing_for(new, &names))? {
        // What is said of every destination is told with the addresses.
        if change.old.service.is_none() && change.new.service.is_none() {
            continue;
        }
        changes.extend(change.flows.into_iter().filter_map(|Flows { to, ports, from, when }| {
            let is_meant = |number: &usize| {
                stand_ins(*number).iter().any(|address| {
                    let holds = |net: &IpNet| net.contains(address);
                    to.iter().any(|block| holds(&block.prefix) && !block.except.iter().any(holds))
                })
            };
            let names: Vec<String> =
                (0..names.len()).filter(is_meant).map(|number| names[number].to_string()).collect();
            let (policy, old, new) = (change.policy, change.old.clone(), change.new.clone());
            (!names.is_empty()).then_some(NameChange { policy, old, new, names, ports, from, when })
        }));
    }
    Ok(changes)
}

/// The policy with names' stand-ins for addresses.
fn standing_for(policy: &Policy, names: &[&Pattern]) -> Policy {
    let mut policy = Policy { nat64: Vec::new(), ..policy.clone() };
    let mut with: Patterns<usize> = Patterns::default();
    for (index, service) in policy.services.iter().enumerate() {
        service.names.iter().for_each(|name| with.insert(name, index));
    }
    for service in &mut policy.services {
        service.names.clear();
        if !is_everywhere(service) {
            service.to.clear();
        }
    }
    for (number, name) in names.iter().enumerate() {
        let services: BTreeSet<usize> = with.covering(name).copied().collect();
        for index in services {
            policy.services[index].to.extend(stand_ins(number));
        }
    }
    policy
}

fn is_everywhere(service: &Service) -> bool {
    service.to.iter().filter(|net| net.prefix_len() == 0).count() == 2
}

/// Addresses of both families, somewhere where they are valid.
fn stand_ins(number: usize) -> [IpNet; 2] {
    let v4 = Ipv4Addr::from_bits((17 << 24) + number as u32);
    let v6 = Ipv6Addr::from_bits((0x2620_0149 << 96) + number as u128);
    [IpAddr::from(v4).into(), IpAddr::from(v6).into()]
}
