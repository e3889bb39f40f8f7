//! What the product is to reach, and whether it did in this run.

use serde::Serialize;

use Bound::{AtLeast, AtMost, MoreThan};

use super::{
    end_to_end,
    filters::{Fate, Filter},
    kinds,
    packets::{COUNTS, FAMILIES, HOSTS, PREFIXES, Packets, RULES, Row},
};

/// A figure, and how far it may go.
#[derive(Debug, Serialize)]
pub struct Target {
    /// What it is of.
    pub what: String,
    /// As it was measured.
    pub measured: f64,
    /// What it is not to exceed, or not to stay below.
    #[serde(flatten)]
    pub bound: Bound,
    /// Whether it does not.
    pub is_reached: bool,
}

/// Where a figure is to end.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// It may be as much.
    AtMost(f64),
    /// It may be as little.
    AtLeast(f64),
    /// It may not.
    MoreThan(f64),
}

/// What others filter packets with.
const RIVALS: [Filter; 4] = [Filter::XdpFilter, Filter::NftIngress, Filter::NftForward, Filter::Ipset];

/// All targets of which something was measured.
#[must_use]
pub fn of(packets: &Packets, flood: &[end_to_end::Row]) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add =
        |what: String, measured: Option<f64>, bound| targets.extend(measured.map(|it| Target::new(what, it, bound)));
    let kind = |what| packets.kinds.iter().find(|row| row.what == what && row.size == kinds::PREFIXES);
    for what in [kinds::ALLOWED, kinds::DROPPED] {
        add(format!("{what}, 1,000 prefixes in 100 rules: ns"), kind(what).map(|row| row.enforcer), AtMost(10.0));
    }
    let sized = |what, size| packets.sizes.iter().find(|row: &&Row| row.what == what && row.size == size);
    let against =
        |row: Option<&Row>, other: fn(&Row) -> Option<f64>| row.and_then(|row| Some(row.enforcer / other(row)?));
    for what in PREFIXES[0] {
        let row = sized(what, 1_000_000);
        add(format!("1,000,000 {what}: ns"), row.map(|row| row.enforcer), AtMost(80.0));
        add(format!("1,000,000 {what}: of the LPM trie's"), against(row, |row| row.lpm_trie), AtMost(0.1));
    }
    let row = sized(PREFIXES[0][0], 1_000_000);
    let seconds = row.map(|row| (row.compile_ms + row.load_ms) as f64 / 1e3);
    add("1,000,000 IPv4 prefixes: s to compile and load".into(), seconds, AtMost(2.0));
    let row = sized(HOSTS[0], 1000);
    add("1,000 IPv4 hosts, hit: ns".into(), row.map(|row| row.enforcer), AtMost(20.0));
    add("1,000 IPv4 hosts, hit: of the hash's".into(), against(row, |row| row.hash), AtMost(1.0));
    let row = sized(HOSTS[0], 1_000_000);
    add("1,000,000 IPv4 hosts, hit: ns".into(), row.map(|row| row.enforcer), AtMost(60.0));
    add("1,000,000 IPv4 hosts, hit: of the hash's".into(), against(row, |row| row.hash), AtMost(0.5));
    add("1,000,000 IPv4 hosts, hit: of the LPM trie's".into(), against(row, |row| row.lpm_trie), AtMost(1.0 / 15.0));
    add("1,000,000 IPv4 hosts: MB of kernel memory".into(), row.map(|row| row.map_mb), AtMost(40.0));
    let ratio = |one: Option<&Row>, other: Option<&Row>| Some(one?.enforcer / other?.enforcer);
    for (what, _) in RULES {
        let [few, .., many] = COUNTS.map(|count| sized(what, count));
        add(format!("10,000 {what}: of 10"), ratio(many, few), AtMost(1.1));
    }
    let [v4, v6] = FAMILIES.map(kind);
    add("1,000 IPv6 prefixes: of IPv4's".into(), ratio(v6, v4), AtMost(2.0));
    for (fate, what, least) in [(Fate::Dropped, "an empty XDP drop's", 0.95), (Fate::Forwarded, "no filter's", 0.97)] {
        let product = end_to_end::find(flood, fate, Filter::EnforcerXdp);
        add(format!("packets {} a second: of {what}", fate.name()), product.map(|row| row.ratio), AtLeast(least));
    }
    for rival in RIVALS {
        let row = end_to_end::find(flood, Fate::Dropped, rival);
        let what = format!("packets dropped a second: against {}", rival.name());
        add(what, row.map(|row| row.enforcer), MoreThan(1.0));
    }
    add("addresses learned a second, with packets flowing".into(), packets.learned_per_second, AtLeast(50_000.0));
    targets
}

impl Target {
    fn new(what: String, measured: f64, bound: Bound) -> Self {
        let is_reached = match bound {
            AtMost(most) => measured <= most,
            AtLeast(least) => measured >= least,
            MoreThan(least) => measured > least,
        };
        Self { what, measured, bound, is_reached }
    }
}

/// Prints them.
pub fn print(targets: &[Target]) {
    println!("\n{:<64} {:>12} {:>12}", "targets", "measured", "to reach");
    for Target { what, measured, bound, is_reached } in targets {
        let bound = match bound {
            AtMost(most) => format!("<= {most:.4}"),
            AtLeast(least) => format!(">= {least:.4}"),
            MoreThan(least) => format!("> {least:.4}"),
        };
        println!("{what:<64} {measured:>12.4} {bound:>12} {}", if *is_reached { "reached" } else { "missed" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_reached_at_its_bound_and_missed_beyond() {
        let reached = |measured, bound| Target::new(String::new(), measured, bound).is_reached;
        assert!(reached(10.0, AtMost(10.0)) && !reached(10.1, AtMost(10.0)));
        assert!(reached(0.95, AtLeast(0.95)) && !reached(0.94, AtLeast(0.95)));
        assert!(reached(1.1, MoreThan(1.0)) && !reached(1.0, MoreThan(1.0)));
        assert!(!reached(f64::NAN, AtMost(1.0)) && !reached(f64::NAN, AtLeast(1.0)));
    }

    #[test]
    fn all_that_has_a_target_is_found_by_its_name_and_nothing_else_is() {
        let row = |what: &str, size| Row {
            what: what.to_owned(),
            size,
            enforcer: 10.0,
            lpm_trie: Some(150.0),
            hash: Some(20.0),
            compile_ms: 1000,
            load_ms: 1000,
            map_mb: 40.0,
        };
        let flood = |filter: Filter, fate: Fate| end_to_end::Row {
            filter: filter.name(),
            fate: fate.name(),
            sent: 1,
            counted: None,
            received: 1,
            lost: 0,
            rate: 1.0,
            spread: 0.0,
            nanoseconds: 1.0,
            above: 0.0,
            ratio: 1.0,
            enforcer: 1.1,
            scale: None,
        };
        assert!(of(&Packets::default(), &[]).is_empty());
        let kinds = [kinds::ALLOWED, kinds::DROPPED].into_iter().chain(FAMILIES);
        let [prefixes, _] = PREFIXES;
        let packets = Packets {
            kinds: kinds.map(|what| row(what, 1000)).collect(),
            sizes: [prefixes.map(|what| row(what, 1_000_000)), RULES.map(|(what, _)| row(what, 10))]
                .into_iter()
                .chain([RULES.map(|(what, _)| row(what, 10_000)), [1000, 1_000_000].map(|size| row(HOSTS[0], size))])
                .flatten()
                .collect(),
            learned_per_second: Some(50_000.0),
        };
        let product = [Fate::Dropped, Fate::Forwarded].map(|fate| flood(Filter::EnforcerXdp, fate));
        let rivals = RIVALS.map(|filter| flood(filter, Fate::Dropped));
        let targets = of(&packets, &[&product[..], &rivals].concat());
        assert_eq!(targets.len(), 23, "{targets:?}");
        assert!(targets.iter().all(|target| target.is_reached), "{targets:?}");
    }
}
