//! What two policies say differently: which flows change their verdict, which names, and which of a policy's words.

mod align;
mod flows;
mod names;
mod text;
mod words;

use serde::Serialize;

use crate::{
    flows::{Block, Ports, TooMuch},
    policy::Policy,
};

/// All differences in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// By policy, verdicts and the rules and services behind them.
    pub flows: Vec<Change>,
    /// The same of names, whose addresses are not known here.
    pub names: Vec<NameChange>,
    /// Of what is said beside rules.
    pub words: Vec<WordChange>,
}

/// Flows that the same rules decide about, differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `lan`, `router` or `inbound`.
    pub policy: &'static str,
    /// The verdict in the old policy.
    pub old: Decision,
    /// And in the new one.
    pub new: Decision,
    /// Which flows these are; each is every combination of its parts, and none is in two.
    pub flows: Vec<Flows>,
}

/// A verdict and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Decision {
    /// `allow`, `drop`, `reject` or `monitor`.
    pub action: &'static str,
    /// The rule, by name or line; nothing if it is the default.
    pub rule: Option<String>,
    /// The rule's line in its file.
    pub line: Option<u32>,
    /// The service of the rule.
    pub service: Option<String>,
}

/// Every combination of a destination, a port, a source and a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flows {
    /// Destinations.
    pub to: Vec<Block>,
    /// Protocols and ports.
    pub ports: Ports,
    /// Sources.
    pub from: Vec<Block>,
    /// Times, each a possibility; empty is always.
    pub when: Vec<String>,
}

/// Flows to names' addresses that the same rules decide about, differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NameChange {
    /// `lan`, `router` or `inbound`.
    pub policy: &'static str,
    /// The verdict in the old policy.
    pub old: Decision,
    /// And in the new one.
    pub new: Decision,
    /// The names.
    pub names: Vec<String>,
    /// Protocols and ports.
    pub ports: Ports,
    /// Sources.
    pub from: Vec<Block>,
    /// Times, each a possibility; empty is always.
    pub when: Vec<String>,
}

/// A word that is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WordChange {
    /// As in a policy file.
    pub word: &'static str,
    /// Its value in the old policy.
    pub old: String,
    /// And in the new one.
    pub new: String,
}

impl Diff {
    /// Compares two policies. Defaults are not among the words: what they decide about is told as flows.
    ///
    /// # Errors
    /// If the policies are too large to compare.
    pub fn new(old: &Policy, new: &Policy) -> Result<Self, TooMuch> {
        Ok(Self { flows: flows::changes(old, new)?, names: names::changes(old, new)?, words: words::changes(old, new) })
    }

    /// Whether there is no difference.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.names.is_empty() && self.words.is_empty()
    }
}

/// A policy's three parts by name.
fn parts(policy: &Policy) -> [(&'static str, &crate::policy::Rules); 3] {
    [("lan", &policy.lan), ("router", &policy.router), ("inbound", &policy.inbound)]
}

/// Whether blocks are all of one family's addresses, or of both.
fn is_everything(blocks: &[Block]) -> bool {
    blocks.iter().all(|block| block.prefix.prefix_len() == 0 && block.except.is_empty())
}

#[cfg(test)]
mod tests;
