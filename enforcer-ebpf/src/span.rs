//! Spans: the few IPv4 prefixes below one root cell, in a line of 64 bytes instead of blocks of a kilobyte each.
//!
//! Prefixes cut what is below the root cell into parts, each with a leaf. The line's first five cells have the lower halves of the addresses at which a
//! part other than the first begins, ascending and two in a cell, the lower one first; the other eleven have the leaves.

use crate::{
    bounded::bounded,
    group::{LINE_CELLS, Line},
};

/// Most parts.
pub const PARTS: usize = 11;
/// Cells with their beginnings.
const BEGINNINGS: usize = PARTS / 2;
const _: () = assert!(BEGINNINGS + PARTS == LINE_CELLS);

/// In the place of a group's lines in the value of a root cell.
pub const MARK: u32 = 15;

/// The line of parts: at which lower half of an address each begins, ascending and the first one at zero, and its leaf. There are 1 to [`PARTS`].
#[must_use]
pub fn line(parts: &[(u16, u32)]) -> Line {
    // What is not used begins last, and is as the last.
    let part = |index: usize| parts.get(index).copied().unwrap_or((u16::MAX, parts[parts.len() - 1].1));
    core::array::from_fn(|index| match index.checked_sub(BEGINNINGS) {
        None => u32::from(part(2 * index + 1).0) | u32::from(part(2 * index + 2).0) << 16,
        Some(index) => part(index).1,
    })
}

/// An address's leaf.
#[inline(always)]
#[must_use]
pub fn find(line: &Line, address: u32) -> u32 {
    let address = u64::from(address & 0xffff);
    let mut part = BEGINNINGS as u64;
    for &two in &line[..BEGINNINGS] {
        part += has_begun((two & 0xffff).into(), address) + has_begun((two >> 16).into(), address);
    }
    line[bounded::<{ LINE_CELLS - 1 }>(part as usize)]
}

/// 1 if a part with this beginning has begun at an address, else 0; without a branch, which would be guessed wrong every other time. The compiler would make
/// one of the comparison.
#[inline(always)]
fn has_begun(beginning: u64, address: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut difference = beginning;
        // SAFETY: arithmetic only.
        unsafe {
            core::arch::asm!(
                "{0} -= {1}", "{0} += -1", "{0} >>= 63", inout(reg) difference, in(reg) address,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        difference
    }
    #[cfg(not(target_arch = "bpf"))]
    u64::from(beginning <= address)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::BTreeMap, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_has_the_leaf_of_the_last_part_that_began(
            parts in prop::collection::btree_map(any::<u16>(), any::<u32>(), 0..PARTS), first in any::<u32>(),
            addresses in prop::collection::vec(any::<u32>(), 50),
        ) {
            let parts: BTreeMap<u16, u32> = [(0, first)].into_iter().chain(parts).take(PARTS).collect();
            let list: Vec<_> = parts.iter().map(|(&beginning, &leaf)| (beginning, leaf)).collect();
            let line = line(&list);
            let edges = parts.keys().flat_map(|&edge| [edge, edge.wrapping_sub(1)]).map(u32::from).chain([0xffff]);
            for address in addresses.into_iter().chain(edges) {
                let (_, leaf) = parts.range(..=address as u16).next_back().expect("the first begins at zero");
                prop_assert_eq!(find(&line, address), *leaf);
            }
        }
    }
}
