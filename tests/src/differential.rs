//! Random policies and packets through the kernel's programs, against the oracle.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use rand::SeedableRng as _;

use crate::{
    bed::Bed,
    oracle::{self, Generator, Random},
};

/// Packets under one policy: a few for each of its rules and edges, so that there can be many policies.
const PER_POLICY: u64 = 1000;

/// What was compared, without a difference.
#[derive(Debug, Default)]
pub struct Tally {
    /// Policies.
    pub policies: u64,
    /// Packets through hooks.
    pub packets: u64,
    /// Packets by what counted them; those that rules counted are together in `rules`.
    pub counted: BTreeMap<String, u64>,
}

/// Compares so many packets, on every CPU. The first policy has this seed, the next ones the seeds behind it.
pub fn run(packets: u64, seed: u64) -> Result<Tally> {
    let threads = std::thread::available_parallelism()?.get() as u64;
    let policies = packets.div_ceil(PER_POLICY);
    let tallies = std::thread::scope(|scope| {
        let each = |first: u64| {
            let mut bed = Bed::new()?;
            let mut tally = Tally::default();
            for policy in (first..policies).step_by(threads as usize) {
                compare(&mut bed, seed + policy, &mut tally)
                    .with_context(|| format!("again: cargo xtask fuzz --packets 1 --seed {}", seed + policy))?;
            }
            Ok(tally)
        };
        let started: Vec<_> = (0..threads).map(|first| scope.spawn(move || each(first))).collect();
        let joined = started.into_iter().map(|thread| thread.join().expect("errors are returned"));
        joined.collect::<Result<Vec<Tally>>>()
    })?;
    let mut sum = Tally::default();
    for tally in tallies {
        sum.policies += tally.policies;
        sum.packets += tally.packets;
        for (name, count) in tally.counted {
            *sum.counted.entry(name).or_default() += count;
        }
    }
    Ok(sum)
}

/// One policy.
fn compare(bed: &mut Bed, seed: u64, tally: &mut Tally) -> Result<()> {
    let mut rng = Random::seed_from_u64(seed);
    let policy = oracle::Policy::random(&mut rng).with_portal(&mut rng);
    bed.enforce(&policy.text(), policy.hour, seed as u32)?;
    bed.admit(policy.portal.iter().flat_map(|portal| &portal.admitted).map(|(who, lasts)| (who.text(), *lasts)))?;
    let mut generator = Generator::new(rng, &policy);
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    let mut sent = 0;
    while sent < PER_POLICY {
        for frame in generator.group() {
            let passes = bed.passes(frame.hook, &frame.bytes)?;
            // A policy that only watches denies nothing, whatever it is.
            if passes != frame.expected.as_ref().is_none_or(|expected| expected.passes || policy.monitor) {
                bail!("seed {seed}, packet {sent}: should be {frame:02x?}\n{}\n{:?}", policy.text(), policy.portal);
            }
            if let Some(expected) = frame.expected {
                *wanted.entry(expected.counter).or_default() += 1;
            }
            sent += 1;
        }
    }
    for (name, count) in bed.counted() {
        let wanted = wanted.get(name).copied().unwrap_or(0);
        if count != wanted {
            bail!("seed {seed}: {name} counted {count}, should have {wanted}\n{}", policy.text());
        }
    }
    for (name, count) in wanted {
        let name = if name.contains('/') { "rules".into() } else { name };
        *tally.counted.entry(name).or_default() += count;
    }
    tally.policies += 1;
    tally.packets += sent;
    Ok(())
}
