//! Sampling rates by number: what a verdict's six bits mean.

use enforcer_ebpf::abi::{Action, Verdict};

use crate::policy::Log;

/// Distinct rates, in the order in which they were asked for.
#[derive(Debug)]
pub struct Samplings(Vec<u32>);

/// No events, and one for every packet.
impl Default for Samplings {
    fn default() -> Self {
        const { assert!(Verdict::EACH == 1) }
        Self(vec![0, 1])
    }
}

impl Samplings {
    /// The verdict with events for those of its packets that make some.
    pub fn mark(&mut self, verdict: Verdict, log: Log) -> Verdict {
        let rate = match log {
            Log::Denied => u32::from(verdict.action() != Action::Allow),
            Log::Never => 0,
            Log::OneIn(count) => count.get(),
        };
        let number = self.0.iter().position(|&known| known == rate).unwrap_or_else(|| {
            self.0.push(rate);
            self.0.len() - 1
        });
        verdict.sampled((number as u32).min(Verdict::SAMPLINGS - 1))
    }

    /// Rates by number.
    pub fn into_rates(self) -> Vec<u32> {
        self.0
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.0.len()
    }
}
