//! A diff as people read it.

use std::fmt::{self, Display, Formatter};

use super::{Change, Decision, Diff, Flows, NameChange, is_everything};
use crate::flows::blocks_text;

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
        if !is_everything(&self.from) {
            write!(f, " from {}", blocks_text(&self.from))?;
        }
        if self.when.is_empty() { Ok(()) } else { write!(f, " at {}", self.when.join(" or ")) }
    }
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
        const UNNAMED: &str = "no rule names them";
        let (old, new) = (self.old.as_deref().unwrap_or(UNNAMED), self.new.as_deref().unwrap_or(UNNAMED));
        let names = self.names[..self.names.len().min(MOST)].join(" ");
        let more = match self.names.len().checked_sub(MOST) {
            None | Some(0) => String::new(),
            Some(more) => format!(" and {more} more"),
        };
        writeln!(f, "{}  names of {} ({names}{more}): {old} -> {new}", column(self.policy), self.service)
    }
}
