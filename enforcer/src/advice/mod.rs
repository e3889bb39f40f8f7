//! What in a policy is likely not meant: `check`'s warnings. The policy is valid with all of them.

mod dead;
mod exposed;
mod forwarded;
mod opened;
mod unused;
mod wide;

use serde::Serialize;

pub use exposed::{Exposure, exposures};

use crate::{
    catalog::Catalogs,
    flows::TooMuch,
    policy::{Policy, Rule, Rules},
};

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Advice {
    /// The included file that the rule is in; nothing if it is the policy's own.
    pub file: Option<String>,
    /// The rule's line; nothing if it is about no rule.
    pub line: Option<u32>,
    /// What there is to know.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Advice {
    fn new(rule: Option<&Rule>, message: String, help: impl Into<String>) -> Self {
        let file = rule.and_then(|rule| rule.file.clone());
        Self { file, line: rule.map(|rule| rule.line), message, help: help.into() }
    }
}

/// All warnings, in the order of the file. Rules that are too many to look at are no mistake: that is a warning itself.
#[must_use]
pub fn advise(policy: &Policy, catalogs: &Catalogs) -> Vec<Advice> {
    exact(policy, catalogs).unwrap_or_else(|error| {
        let help = "the policy may be put in force all the same";
        vec![Advice::new(None, format!("no rule was looked at for warnings: {error}"), help)]
    })
}

fn exact(policy: &Policy, catalogs: &Catalogs) -> Result<Vec<Advice>, TooMuch> {
    let mut all = Vec::new();
    for rules in [&policy.lan, &policy.router, &policy.inbound] {
        all.extend(dead::rules(policy, rules)?);
        all.extend(wide::rules(policy, rules));
    }
    all.extend(opened::services(policy, catalogs)?);
    all.extend(unused::services_and_schedules(policy, catalogs));
    all.extend(forwarded::names(policy));
    all.sort();
    Ok(all)
}

/// A rule as messages call it: `rule apple`, or `the rule` where the place alone tells which.
fn called(rule: &Rule) -> String {
    rule.name.as_ref().map_or_else(|| "the rule".into(), |name| format!("rule {name}"))
}

/// Some of a policy's rules in a sentence: `rules a and b`, with at most so many of their labels.
fn several(rules: &Rules, ids: impl Iterator<Item = usize>) -> String {
    const MOST: usize = 4;
    let labels: Vec<String> = ids.map(|id| rules.rules[id].label()).collect();
    let noun = if labels.len() == 1 { "rule" } else { "rules" };
    if labels.len() > MOST {
        return format!("{noun} {} and others", labels[..MOST].join(", "));
    }
    format!("{noun} {}", listed(&labels))
}

/// `a, b and c`.
fn listed(words: &[String]) -> String {
    match words {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests;
