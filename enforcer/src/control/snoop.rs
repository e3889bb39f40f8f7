//! The controller as one who hears what other resolvers answer.

use std::{
    future,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use enforcer_ebpf::abi::dns::outcome;

use super::Controller;
use crate::{
    api::types::Snooped,
    dns::Answer,
    kernel::snoop::{Answers, Outcomes},
    names::How,
};

/// Whose answers are heard, and what became of them.
pub struct Snooping {
    resolvers: Vec<IpAddr>,
    outcomes: Outcomes,
    /// Of those that the kernel took.
    unreadable: AtomicU64,
}

impl Snooping {
    pub fn new(resolvers: Vec<IpAddr>, outcomes: Outcomes) -> Self {
        Self { resolvers, outcomes, unreadable: AtomicU64::new(0) }
    }

    pub fn status(&self) -> Snooped {
        let counts = self.outcomes.read();
        let count = |outcome: u32| counts[outcome as usize];
        let unreadable = self.unreadable.load(Ordering::Relaxed);
        Snooped {
            resolvers: self.resolvers.clone(),
            taken: count(outcome::TAKEN).saturating_sub(unreadable),
            lost: count(outcome::LOST),
            unasked: count(outcome::UNASKED),
            forged: count(outcome::FORGED),
            malformed: count(outcome::MALFORMED) + unreadable,
            fragmented: count(outcome::FRAGMENTED),
            tcp: count(outcome::TCP),
            truncated: count(outcome::TRUNCATED),
            too_long: count(outcome::TOO_LONG),
            over_limit: count(outcome::OVER_LIMIT),
        }
    }
}

impl Controller {
    /// Learns from answers that pass until it is dropped.
    pub async fn snoop(&self, answers: Option<Answers>) -> Result<()> {
        let (Some(answers), Some(snooping)) = (answers, &self.snooping) else { return future::pending().await };
        // The kernel has compared the question with what was asked.
        let take = |message: &[u8]| match Answer::read(message) {
            Ok(answer) if answer.addresses.is_empty() => {}
            Ok(answer) => self.learn(&answer, How::Snooped),
            Err(_) => {
                snooping.unreadable.fetch_add(1, Ordering::Relaxed);
            }
        };
        Ok(answers.follow(take).await?)
    }
}
