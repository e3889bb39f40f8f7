//! Overlapping prefixes to disjoint meaning: which sets cover an address.

use std::collections::HashMap;

use super::sets::{SetId, Sets};

/// An address as a number.
pub trait Address: Copy + Ord {
    /// Its bits.
    const BITS: u8;
    /// The address with all but the first `length` bits cleared.
    #[must_use]
    fn network(self, length: u8) -> Self;
}

impl Address for u32 {
    const BITS: u8 = 32;
    fn network(self, length: u8) -> Self {
        if length == 0 { 0 } else { self & Self::MAX << (32 - length) }
    }
}

impl Address for u128 {
    const BITS: u8 = 128;
    fn network(self, length: u8) -> Self {
        if length == 0 { 0 } else { self & Self::MAX << (128 - length) }
    }
}

/// A prefix with a number: a set on the way in, a class on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix<A> {
    /// First address; bits beyond the length are zero.
    pub address: A,
    /// Length in bits.
    pub length: u8,
    /// What it carries.
    pub value: u32,
}

/// The interned sets would have more elements than allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManySets;

/// For each distinct prefix, the set of all numbers whose prefixes cover it; prefixes that add nothing to the one around them are left out.
/// The result is sorted: each prefix comes after those that contain it. `outermost` is the set that covers every address.
///
/// # Errors
/// If the sets together would have more than `limit` elements.
pub fn nest<A: Address>(
    mut prefixes: Vec<Prefix<A>>,
    outermost: SetId,
    sets: &mut Sets,
    limit: usize,
) -> Result<Vec<Prefix<A>>, TooManySets> {
    prefixes.sort_unstable();
    prefixes.dedup();
    let mut nested: Vec<Prefix<A>> = Vec::with_capacity(prefixes.len());
    let mut around: Vec<Prefix<A>> = Vec::new();
    // Most prefixes add one number to one of a few sets.
    let mut unions: HashMap<(SetId, u32), SetId> = HashMap::new();
    let mut own = Vec::new();
    for same in prefixes.chunk_by(|a, b| (a.address, a.length) == (b.address, b.length)) {
        let (address, length) = (same[0].address, same[0].length);
        while around.last().is_some_and(|outer| address.network(outer.length) != outer.address) {
            around.pop();
        }
        let parent = around.last().map_or(outermost, |outer| outer.value);
        let value = if let [single] = same {
            *unions.entry((parent, single.value)).or_insert_with(|| sets.union(parent, &[single.value]))
        } else {
            own.clear();
            own.extend(same.iter().map(|prefix| prefix.value));
            sets.union(parent, &own)
        };
        if sets.elements() > limit {
            return Err(TooManySets);
        }
        if value != parent {
            let prefix = Prefix { address, length, value };
            nested.push(prefix);
            around.push(prefix);
        }
    }
    Ok(nested)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix() -> impl Strategy<Value = Prefix<u32>> {
        // Few distinct bits, so that prefixes overlap.
        (any::<u8>(), 0..=32_u8, 0..6_u32).prop_map(|(bits, length, value)| {
            let address = (u32::from(bits) << 24 | u32::from(bits)).network(length);
            Prefix { address, length, value }
        })
    }

    proptest! {
        #[test]
        fn the_innermost_prefix_carries_every_set_that_covers_an_address(
            prefixes in prop::collection::vec(prefix(), 0..40), bits in any::<u8>(), low in any::<u8>(),
        ) {
            let address = u32::from(bits) << 24 | u32::from(low);
            let mut sets = Sets::default();
            let empty = sets.intern(&[]);
            let nested = nest(prefixes.clone(), empty, &mut sets, 10_000).expect("few sets");
            let innermost = nested.iter().filter(|p| address.network(p.length) == p.address).max_by_key(|p| p.length);
            let got = innermost.map_or(&[][..], |p| sets.get(p.value));
            let mut wanted: Vec<u32> =
                prefixes.iter().filter(|p| address.network(p.length) == p.address).map(|p| p.value).collect();
            wanted.sort_unstable();
            wanted.dedup();
            prop_assert_eq!(got, wanted);
        }
    }

    #[test]
    fn sets_beyond_the_limit_are_refused() {
        let prefixes = (0..32).map(|length| Prefix { address: 0_u32, length, value: u32::from(length) }).collect();
        let mut sets = Sets::default();
        let empty = sets.intern(&[]);
        assert_eq!(nest(prefixes, empty, &mut sets, 100), Err(TooManySets));
    }
}
