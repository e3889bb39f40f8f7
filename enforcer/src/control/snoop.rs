//! The controller as one who hears what other resolvers answer.

use std::{
    future,
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::Result;
use enforcer_ebpf::abi::dns::outcome;

use super::Controller;
use crate::{
    api::types::Snooped,
    dns::{Answer, ResponseCode},
    kernel::snoop::{Answers, Outcomes},
    names::How,
};

/// Whose answers are heard, and what became of them.
pub struct Snooping {
    resolvers: Vec<IpAddr>,
    outcomes: Outcomes,
    /// Of those that the kernel handed over.
    taken: AtomicU64,
    /// Likewise.
    unreadable: AtomicU64,
    /// When an answer last said how things are.
    heard: Mutex<Option<Instant>>,
}

impl Snooping {
    pub fn new(resolvers: Vec<IpAddr>, outcomes: Outcomes) -> Self {
        Self { resolvers, outcomes, taken: AtomicU64::new(0), unreadable: AtomicU64::new(0), heard: Mutex::default() }
    }

    pub fn heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> Snooped {
        let counts = self.outcomes.read();
        let count = |outcome: u32| counts[outcome as usize];
        let unreadable = self.unreadable.load(Ordering::Relaxed);
        Snooped {
            resolvers: self.resolvers.clone(),
            // Not the kernel's own count less these: that would go back at times.
            taken: self.taken.load(Ordering::Relaxed),
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
            Ok(answer) => {
                snooping.taken.fetch_add(1, Ordering::Relaxed);
                if matches!(answer.rcode, ResponseCode::NoError | ResponseCode::NXDomain) {
                    *snooping.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
                if !answer.addresses.is_empty() {
                    self.learn(&answer, How::Snooped);
                }
            }
            Err(_) => {
                snooping.unreadable.fetch_add(1, Ordering::Relaxed);
            }
        };
        Ok(answers.follow(take).await?)
    }
}
