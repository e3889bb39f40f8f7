//! Resolvers' answers that passed, as the kernel's programs hand them over, and what became of the others.

use std::net::IpAddr;

use aya::{
    Ebpf,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
};
use enforcer_ebpf::abi::{
    Words6,
    dns::{RESOLVERS, outcome},
};

use super::{KernelError, ring, take::Take};

/// Queries remembered until they are answered.
pub(super) const QUERIES: u32 = 65_536;
/// Clients and stations whose queries are counted.
pub(super) const ASKERS: u32 = 16_384;
/// Bytes of the answers' ring buffer, a power of two: thousands of usual answers.
pub(super) const ANSWERS: u32 = 1 << 20;

/// The program at a LAN's egress.
pub(super) const EGRESS: &str = "snoop_answers";
/// The one at its ingress.
pub(super) const INGRESS: &str = "snoop_queries";
/// Those that are there only if somebody is to be heard.
pub const PROGRAMS: [&str; 2] = [EGRESS, INGRESS];

/// The answers' ring buffer.
pub struct Answers(RingBuf<MapData>);

impl Answers {
    /// Hands over answers for good, as they come: DNS messages, each the answer to a query that passed.
    ///
    /// # Errors
    /// If the ring buffer cannot be waited for.
    pub async fn follow(self, mut take: impl FnMut(&[u8])) -> Result<(), KernelError> {
        let take = |answers: &[Vec<u8>]| answers.iter().for_each(|answer| take(answer));
        ring::follow(self.0, |bytes| Some(bytes.to_vec()), take).await
    }
}

/// What became of messages that passed.
pub struct Outcomes(PerCpuArray<MapData, u64>);

impl Outcomes {
    /// How often so far, by [`outcome`], on all CPUs.
    #[must_use]
    pub fn read(&self) -> [u64; outcome::COUNT as usize] {
        std::array::from_fn(|index| {
            let by_cpu = self.0.get(&(index as u32), 0);
            by_cpu.map_or(0, |by_cpu| by_cpu.iter().sum())
        })
    }
}

/// Tells the programs of a loaded object whose answers count.
pub(super) fn begin(ebpf: &mut Ebpf, resolvers: &[IpAddr]) -> Result<(Answers, Outcomes), KernelError> {
    let maps = Take(ebpf);
    let mut trusted: HashMap<_, Words6, u32> = maps.map("RESOLVERS")?;
    if resolvers.len() > RESOLVERS as usize {
        return Err(KernelError::Resolvers(resolvers.len()));
    }
    for resolver in resolvers {
        let stored = trusted.insert(words(*resolver), 0, 0);
        stored.map_err(|source| KernelError::Map { name: "RESOLVERS", source })?;
    }
    Ok((Answers(maps.map("ANSWERS")?), Outcomes(maps.map("OUTCOMES")?)))
}

/// An address as the programs have it.
fn words(address: IpAddr) -> Words6 {
    match address {
        IpAddr::V4(v4) => [0, 0, 0, v4.to_bits()],
        IpAddr::V6(v6) => [96, 64, 32, 0].map(|shift| (v6.to_bits() >> shift) as u32),
    }
}
