//! Rates by service and by rule, with what they were in the last minute.

use std::collections::{HashMap, VecDeque};

use super::super::rates::{Amount, Rate, Totals};
use crate::api::types::Counters;

/// Samples that are kept of each line: a minute of them.
const HISTORY: usize = 60;

/// What lines are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A service, over all rules that name it.
    #[default]
    Service,
    /// A rule's service.
    Rule,
}

/// A line's name and what becomes of its packets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    name: String,
    action: String,
}

/// What is known of a line.
#[derive(Clone, Debug, Default)]
pub struct Line {
    pub name: String,
    pub action: String,
    pub total: Amount,
    pub rate: Rate,
    /// Bits a second, the oldest first.
    pub history: VecDeque<f64>,
}

impl Line {
    fn take(&mut self, now: Amount, seconds: Option<f64>) {
        if let Some(seconds) = seconds {
            self.rate = Rate::between(self.total, now, seconds);
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(self.rate.bits);
        }
        self.total = now;
    }
}

/// All lines.
#[derive(Clone, Default)]
pub struct Traffic {
    lines: HashMap<Key, Line>,
    /// When counters came last, in seconds.
    last: Option<f64>,
    pub allowed: Line,
    pub denied: Line,
    pub monitored: Line,
}

impl Traffic {
    /// Takes the counters at a time, in seconds since whenever.
    pub fn take(&mut self, counters: &Counters, time: f64) {
        let seconds = self.last.map(|last| time - last);
        self.last = Some(time);
        let totals = Totals::of(counters);
        self.allowed.take(totals.allowed, seconds);
        self.denied.take(totals.denied, seconds);
        self.monitored.take(totals.monitored, seconds);
        let mut amounts: HashMap<Key, Amount> = HashMap::new();
        let mut add = |kind, name: String, action: &str, packets, bytes| {
            *amounts.entry(Key { kind, name, action: action.into() }).or_default() += Amount { packets, bytes };
        };
        for rule in &counters.rules {
            let service = rule.service.as_deref().unwrap_or("any");
            let (by_service, by_rule) = match rule.policy.as_str() {
                "lan" => (service.to_owned(), format!("{} {service}", rule.rule)),
                policy => (format!("{service} ({policy})"), format!("{} {service} ({policy})", rule.rule)),
            };
            add(Kind::Service, by_service, &rule.action, rule.packets, rule.bytes);
            add(Kind::Rule, by_rule, &rule.action, rule.packets, rule.bytes);
        }
        for pseudo in &counters.pseudo {
            for kind in [Kind::Service, Kind::Rule] {
                add(kind, format!("[{}]", pseudo.name), &pseudo.action, pseudo.packets, pseudo.bytes);
            }
        }
        // Lines of a policy that is in force no more go.
        self.lines.retain(|key, _| amounts.contains_key(key));
        for (key, now) in amounts {
            let line = self.lines.entry(key).or_insert_with_key(|key| Line {
                name: key.name.clone(),
                action: key.action.clone(),
                total: now,
                ..Line::default()
            });
            line.take(now, seconds);
        }
    }

    /// Lines of a kind that have ever counted anything.
    pub fn lines(&self, kind: Kind) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |(key, line)| key.kind == kind && line.total.packets > 0).map(|(_, line)| line)
    }
}
