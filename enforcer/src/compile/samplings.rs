//! Sampling rates by number: what a verdict's six bits mean.

use std::num::NonZeroU32;

use enforcer_ebpf::abi::{Action, Verdict};

/// Distinct rates, in the order in which they were asked for.
#[derive(Debug)]
pub struct Samplings(Vec<u32>);

/// No events, and one for every packet.
impl Default for Samplings {
    fn default() -> Self {
        Self(vec![0, 1])
    }
}

impl Samplings {
    /// The verdict with events for one in so many packets; without a rate, for every one if it is denied or would be.
    pub fn mark(&mut self, verdict: Verdict, one_in: Option<NonZeroU32>) -> Verdict {
        let rate = one_in.map_or(u32::from(verdict.action() != Action::Allow), NonZeroU32::get);
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
