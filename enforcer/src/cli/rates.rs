//! What passes and what is denied, a second.

use std::ops::AddAssign;

use serde::Serialize;

use crate::api::types::Counters;

/// Packets and bytes so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    pub packets: u64,
    pub bytes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// Packets and bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    pub packets: f64,
    pub bits: f64,
}

impl Rate {
    /// Of amounts that were taken some seconds apart. A controller that began anew counts from zero.
    pub fn between(before: Amount, now: Amount, seconds: f64) -> Self {
        if seconds <= 0.0 {
            return Self::default();
        }
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        Self { packets: rate(before.packets, now.packets), bits: rate(before.bytes, now.bytes) * 8.0 }
    }
}

/// Of all rules and pseudo rules together, by what becomes of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What passed because it may.
    pub allowed: Amount,
    /// What was dropped or rejected.
    pub denied: Amount,
    /// What passed, and would be denied.
    pub monitored: Amount,
}

impl Totals {
    pub fn of(counters: &Counters) -> Self {
        let mut totals = Self::default();
        let rules = counters.rules.iter().map(|rule| (rule.action.as_str(), rule.packets, rule.bytes));
        let pseudo = counters.pseudo.iter().map(|pseudo| (pseudo.action.as_str(), pseudo.packets, pseudo.bytes));
        for (action, packets, bytes) in rules.chain(pseudo) {
            let total = match action {
                "allow" => &mut totals.allowed,
                "monitor" => &mut totals.monitored,
                _ => &mut totals.denied,
            };
            *total += Amount { packets, bytes };
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{PseudoCounter, RuleCounter};

    #[test]
    fn what_becomes_of_packets_is_what_they_are_summed_by() {
        let rule = |action: &str, packets| RuleCounter {
            policy: "lan".into(),
            rule: "r".into(),
            service: None,
            action: action.into(),
            packets,
            bytes: packets * 100,
        };
        let pseudo = PseudoCounter { name: "default".into(), action: "drop".into(), packets: 7, bytes: 70 };
        let rules = vec![rule("allow", 1), rule("reject", 2), rule("monitor", 4), rule("allow", 8)];
        let totals = Totals::of(&Counters { rules, pseudo: vec![pseudo] });
        assert_eq!(totals.allowed, Amount { packets: 9, bytes: 900 });
        assert_eq!(totals.denied, Amount { packets: 9, bytes: 270 });
        assert_eq!(totals.monitored, Amount { packets: 4, bytes: 400 });
    }

    #[test]
    fn rates_are_by_the_second_and_never_negative() {
        let (before, now) = (Amount { packets: 10, bytes: 1000 }, Amount { packets: 15, bytes: 2000 });
        assert_eq!(Rate::between(before, now, 0.5), Rate { packets: 10.0, bits: 16_000.0 });
        assert_eq!(Rate::between(now, before, 0.5), Rate::default());
        assert_eq!(Rate::between(before, now, 0.0), Rate::default());
    }
}
