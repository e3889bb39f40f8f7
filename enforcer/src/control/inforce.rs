//! A policy in force: what the controller knows by it, beside the kernel's tables.

use anyhow::{Context as _, Result};
use enforcer_ebpf::abi::{PolicyId, pseudo};
use jiff::Timestamp;

use super::seed;
use crate::{
    api::types::RuleCounter,
    compile::{self, Counted, Image, Limits, Usage},
    dns::DnsPolicy,
    kernel::counters::identity,
    moments::Moments,
    net::image::Words,
    policy::{Bundle, Policy, ScheduleId, words},
};

/// A policy, and all that follows from it.
pub struct InForce {
    pub bundle: Bundle,
    pub policy: Policy,
    pub sha256: String,
    /// Its number in the history, if it is kept there.
    pub number: Option<u32>,
    /// The counters of rules, still zero, by number.
    pub counters: Vec<Option<RuleCounter>>,
    pub words: Words,
    pub usage: Usage,
    pub schedule: Schedule,
    /// What clients' questions are answered with.
    pub answers: DnsPolicy,
    /// Why it is not its file's present content, if that was of no use at the start.
    pub file_problem: Option<String>,
}

impl InForce {
    /// Reads and compiles a policy; `learns` is whether addresses of names are to be stored.
    ///
    /// # Errors
    /// If it has mistakes, or is too large.
    pub fn new(bundle: Bundle, learns: bool) -> Result<(Self, Image)> {
        let policy = bundle.policy()?;
        let limits = Limits::default();
        let limits = Limits { learned: if learns { limits.learned } else { 0 }, ..limits };
        let image = compile::compile(&policy, &limits, seed())?;
        let in_force = Self {
            sha256: bundle.sha256(),
            number: None,
            file_problem: None,
            counters: counters(&policy, &image),
            words: image.words,
            usage: image.usage,
            schedule: Schedule::of(&policy)?,
            answers: DnsPolicy::new(&policy),
            bundle,
            policy,
        };
        Ok((in_force, image))
    }

    /// Returns the identity of each counter, its action included, as numbers that are the same under any
    /// policy: the pseudo rules', then the rules'. Of several that cannot be told apart, each is
    /// the first, second, … of its kind.
    #[must_use]
    pub fn identities(&self) -> Vec<u64> {
        let mut seen = std::collections::HashMap::new();
        let mut nth = |words: &[&str]| {
            let count = seen.entry(identity(words)).and_modify(|count| *count += 1_u32).or_insert(0);
            identity(&[words, &[&count.to_string()]].concat())
        };
        let verdicts = pseudo::NAMES.iter().zip(&self.words.pseudo);
        let mut identities: Vec<u64> =
            verdicts.map(|(name, verdict)| nth(&["", name, words::name(verdict.action())])).collect();
        identities.extend(self.counters.iter().map(|counter| match counter {
            Some(RuleCounter { policy, rule, service, action, .. }) => {
                nth(&[policy, rule, service.as_deref().unwrap_or_default(), action])
            }
            None => 0,
        }));
        identities
    }
}

/// The counters of rules, still zero. Inbound rules open flows, they count nothing.
fn counters(policy: &Policy, image: &Image) -> Vec<Option<RuleCounter>> {
    let name = |(id, counted): &(PolicyId, Counted)| {
        let (part, rules) = match id {
            PolicyId::Lan => ("lan", &policy.lan),
            PolicyId::Router => ("router", &policy.router),
            PolicyId::Inbound => return None,
        };
        let rule = &rules.rules[counted.rule.0 as usize];
        Some(RuleCounter {
            policy: part.into(),
            rule: rule.label(),
            service: counted.service.map(|id| policy.services[id.0 as usize].name.clone()),
            action: words::name(policy.effect(rule)).into(),
            packets: 0,
            bytes: 0,
        })
    };
    image.counters.iter().map(name).collect()
}

/// The policy's schedules and the moments that they make.
pub struct Schedule {
    moments: Moments,
    names: Vec<String>,
}

impl Schedule {
    fn of(policy: &Policy) -> Result<Self> {
        let moments = Moments::of(policy).ok().context("too many combinations of schedules")?;
        Ok(Self { moments, names: policy.schedules.iter().map(|schedule| schedule.name.clone()).collect() })
    }

    /// The number of the present moment.
    pub fn moment(&self) -> usize {
        self.moments.at(Timestamp::now())
    }

    /// Those that apply now.
    pub fn now(&self) -> &[ScheduleId] {
        &self.moments.sets()[self.moment()]
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.now().iter().map(|id| self.names[id.0 as usize].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(text: &str) -> Vec<u64> {
        let bundle = Bundle { path: "p".into(), files: [("p".into(), text.into())].into() };
        let (in_force, image) = InForce::new(bundle, false).unwrap_or_else(|error| panic!("{error}"));
        let identities = in_force.identities();
        assert_eq!(identities.len(), pseudo::COUNT as usize + image.counters.len());
        identities
    }

    #[test]
    fn what_counts_the_same_is_found_again_in_another_policy() {
        let one = "[[rule]]\nname = \"one\"\naction = \"allow\"\n";
        let two = "[[rule]]\nname = \"two\"\naction = \"allow\"\n";
        let all = |rules: &[&str]| identities(&["default = \"drop\"\n", &rules.concat()].concat());
        let (before, after) = (all(&[one, two]), all(&[two, "[[rule]]\naction = \"drop\"\n", one]));
        let rules = pseudo::COUNT as usize;
        assert_eq!(before[..rules], after[..rules]);
        assert_eq!((before[rules], before[rules + 1]), (after[rules + 2], after[rules]));
        // Another action is another thing.
        assert_ne!(all(&[one])[rules], all(&[&one.replace("allow", "drop")])[rules]);
    }

    #[test]
    fn pseudo_counters_are_found_again_under_the_same_action_alone() {
        let own = |text: &str| identities(text)[..pseudo::COUNT as usize].to_vec();
        let is_same = |before: &str, after: &str, rule: u32| own(before)[rule as usize] == own(after)[rule as usize];
        let (drop, monitor) = ("default = \"drop\"\n", "default = \"drop\"\nmonitor = true\n");
        for rule in [pseudo::DEFAULT, pseudo::MALFORMED, pseudo::SOURCE, pseudo::UNLISTED, pseudo::SOURCE_ROUTE] {
            assert!(is_same(drop, drop, rule) && !is_same(monitor, drop, rule), "{}", pseudo::NAMES[rule as usize]);
        }
        assert!(is_same(monitor, drop, pseudo::LOCAL));
        assert!(!is_same(drop, "default = \"reject\"\n", pseudo::DEFAULT));
        assert!(!is_same(drop, "default = \"drop\"\nfragments = \"allow\"\n", pseudo::FRAGMENT));
    }

    #[test]
    fn no_two_counters_are_the_same() {
        let mut identities =
            identities("default = \"drop\"\n[[rule]]\naction = \"allow\"\n[[rule]]\naction = \"allow\"\n");
        let count = identities.len();
        identities.sort_unstable();
        identities.dedup();
        assert_eq!(identities.len(), count);
    }
}
