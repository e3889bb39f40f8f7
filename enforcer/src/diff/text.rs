//! A diff as people read it.

use std::fmt::{self, Display, Formatter};

use super::{Change, Decision, Diff, Flows, NameChange, is_everything};
use crate::flows::{Block, blocks_text};

/// Lines of one change, and names of one service; more are counted, not told.
const MOST: usize = 8;

impl Display for Diff {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no flow changes verdict\n");
        }
        self.flows.iter().try_for_each(|change| write!(f, "{change}"))?;
        self.names.iter().try_for_each(|change| write!(f, "{change}"))?;
        self.words.iter().try_for_each(|change| writeln!(f, "{}: {} -> {}", change.word, change.old, change.new))
    }
}

/// The column of the policy.
fn column(policy: &str) -> &str {
    if policy == "lan" { "LAN" } else { policy }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { policy, old, new, flows } = self;
        for flow in flows.iter().take(MOST) {
            writeln!(f, "{}  {flow}: {old} -> {new}", column(policy))?;
        }
        match flows.len().checked_sub(MOST) {
            None | Some(0) => Ok(()),
            Some(more) => writeln!(f, "{}  and {more} more: {old} -> {new} (--json has all)", column(policy)),
        }
    }
}

impl Display for Flows {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", blocks_text(&self.to), self.ports)?;
        sources_and_times(f, &self.from, is_everything(&self.from), &self.when)
    }
}

fn sources_and_times(f: &mut Formatter<'_>, from: &[Block], everybody: bool, when: &[String]) -> fmt::Result {
    if !everybody {
        write!(f, " from {}", blocks_text(from))?;
    }
    let Some(first) = when.first() else { return Ok(()) };
    // Whether clients are admitted is no time of day.
    let at = if first.starts_with("while") { "" } else { "at " };
    write!(f, " {at}{}", when.join(" or "))
}

impl Display for Decision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.rule, &self.service) {
            (None, _) => write!(f, "{} (default)", self.action),
            (Some(rule), None) => write!(f, "{} (rule {rule})", self.action),
            (Some(rule), Some(service)) => write!(f, "{} (rule {rule}, service {service})", self.action),
        }
    }
}

impl Display for NameChange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { policy, old, new, names, ports, from, when } = self;
        write!(f, "{}  {}", column(policy), names[..names.len().min(MOST)].join(", "))?;
        if let Some(more @ 1..) = names.len().checked_sub(MOST) {
            write!(f, " and {more} more names")?;
        }
        write!(f, " {ports}")?;
        // Names have addresses of both families, whose sources are the same family's.
        sources_and_times(f, from, from.len() == 2 && is_everything(from), when)?;
        writeln!(f, ": {old} -> {new}")
    }
}
