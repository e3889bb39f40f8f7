//! Prefixes of both families, sorted by what finds them.

use ipnet::IpNet;

use super::{
    CompileError, FEWER_SETS, Limits,
    prefixes::{self, Prefix},
    sets::Sets,
    too_large,
};

/// The set of no prefix at all.
pub const OUTERMOST: u32 = 0;

/// One family's prefixes by the structure that finds them.
pub struct Family<A> {
    /// In the trie, sorted.
    pub prefixes: Vec<Prefix<A>>,
    /// In the LPM map (IPv6 only).
    pub long: Vec<Prefix<A>>,
    /// In groups (IPv4) or the host table (IPv6).
    pub hosts: Vec<Prefix<A>>,
}

impl<A: prefixes::Address> Family<A> {
    /// Sorts prefixes by what finds them; the order within each stays.
    pub fn split(all: Vec<Prefix<A>>, is_host: impl Fn(&Prefix<A>) -> bool, trie_bits: u8) -> Self {
        let (hosts, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_host);
        let (prefixes, long) = rest.into_iter().partition(|prefix| prefix.length <= trie_bits);
        Self { prefixes, long, hosts }
    }

    /// The same with other values.
    pub fn map(mut self, mut value: impl FnMut(u32) -> Result<u32, CompileError>) -> Result<Self, CompileError> {
        for prefix in self.prefixes.iter_mut().chain(&mut self.long).chain(&mut self.hosts) {
            prefix.value = value(prefix.value)?;
        }
        Ok(self)
    }
}

/// Both families' prefixes, each after those that contain it.
pub type Nested = (Vec<Prefix<u32>>, Vec<Prefix<u128>>);

/// Numbered prefix sets to nested prefixes of both families, over the same sets of numbers.
pub fn nest(groups: &[impl AsRef<[IpNet]>], sets: &mut Sets, limits: &Limits) -> Result<Nested, CompileError> {
    sets.intern(&[]);
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (value, prefixes) in groups.iter().enumerate() {
        let value = value as u32;
        for prefix in prefixes.as_ref() {
            match prefix {
                IpNet::V4(net) => v4.push(Prefix { address: net.network().into(), length: net.prefix_len(), value }),
                IpNet::V6(net) => v6.push(Prefix { address: net.network().into(), length: net.prefix_len(), value }),
            }
        }
    }
    let refuse =
        |_| too_large("elements of overlapping prefix sets", limits.class_words + 1, limits.class_words, FEWER_SETS);
    let v4 = prefixes::nest(v4, OUTERMOST, sets, limits.class_words).map_err(refuse)?;
    let v6 = prefixes::nest(v6, OUTERMOST, sets, limits.class_words).map_err(refuse)?;
    Ok((v4, v6))
}
