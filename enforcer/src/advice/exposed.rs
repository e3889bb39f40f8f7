//! Rules that open what else is at the addresses of names. That is the nature of names, and no warning.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use crate::policy::{Action, Policy, PortMatch, Rule, Service};

/// What a rule opens by names alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exposure {
    /// The included file that the rule is in; nothing if it is the policy's own.
    pub file: Option<String>,
    /// The rule's line.
    pub line: u32,
    /// The rule's name, if it has one.
    pub rule: Option<String>,
    /// How many names, those with an asterisk among them.
    pub names: usize,
    /// How many of these have an asterisk.
    pub wildcards: usize,
    /// On which ports.
    pub ports: Vec<String>,
}

/// The rules about clients and the gateway that allow names of services without prefixes: where there are some, the names are taken to lie in these.
#[must_use]
pub fn exposures(policy: &Policy) -> Vec<Exposure> {
    let rules = policy.lan.rules.iter().chain(&policy.router.rules);
    rules.filter(|rule| rule.action == Action::Allow).filter_map(|rule| exposure(policy, rule)).collect()
}

fn exposure(policy: &Policy, rule: &Rule) -> Option<Exposure> {
    let services = rule.services.iter().flatten().map(|id| &policy.services[id.0 as usize]);
    let services: Vec<&Service> = services.filter(|one| one.to.is_empty() && !one.names.is_empty()).collect();
    let names: BTreeSet<_> = services.iter().flat_map(|service| &service.names).collect();
    let ports: BTreeSet<&PortMatch> = services.iter().flat_map(|service| &service.ports).collect();
    (!names.is_empty()).then(|| Exposure {
        file: rule.file.clone(),
        line: rule.line,
        rule: rule.name.clone(),
        names: names.len(),
        wildcards: names.iter().filter(|name| name.is_wildcard()).count(),
        ports: ports.into_iter().map(ToString::to_string).collect(),
    })
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More ports are counted, not told.
        const MOST: usize = 6;
        let Self { rule, names, wildcards, ports, .. } = self;
        match rule {
            Some(rule) => write!(f, "rule {rule}")?,
            None => f.write_str("the rule")?,
        }
        write!(
            f,
            " opens {names} names, {wildcards} of them with an asterisk, on {}",
            ports[..ports.len().min(MOST)].join(", ")
        )?;
        if ports.len() > MOST {
            write!(f, " and {} more", ports.len() - MOST)?;
        }
        f.write_str(": shared content networks serve others' sites from the same addresses, there allowed too")
    }
}
