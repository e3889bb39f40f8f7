//! Which clauses of two policies are the same, in the same order.
//!
//! Where the verdict changes, an unaligned clause decides in one of the policies: if the old policy's first match has a partner in the new one, which
//! matches as well, the new policy's first match comes before that; and if it had a partner of its own, that would have been the old policy's first.

use std::collections::{HashMap, VecDeque};

use crate::{flows::Clause, policy::Action};

/// For each side's clauses, whether the other side has no partner for it. Partners say the same and are in the same order on both sides.
pub fn fresh(sides: [&[Clause]; 2]) -> [Vec<bool>; 2] {
    let says = |clause: &Clause| (clause.shapes[0], clause.action);
    // The next one of those that say the same.
    let mut places: HashMap<(u32, Action), VecDeque<usize>> = HashMap::new();
    for (index, clause) in sides[1].iter().enumerate() {
        places.entry(says(clause)).or_default().push_back(index);
    }
    let pairs = sides[0].iter().enumerate().filter_map(|(old, clause)| {
        let new = places.get_mut(&says(clause)).and_then(VecDeque::pop_front)?;
        Some((old, new))
    });
    let pairs: Vec<(usize, usize)> = pairs.collect();
    let mut fresh = sides.map(|clauses| vec![true; clauses.len()]);
    for pair in longest_rising(&pairs) {
        fresh[0][pairs[pair].0] = false;
        fresh[1][pairs[pair].1] = false;
    }
    fresh
}

/// The longest run of pairs, not necessarily neighbours, whose second parts rise: their indices, backwards.
fn longest_rising(pairs: &[(usize, usize)]) -> Vec<usize> {
    // For each length, the pair with the least second part that such a run may end with; and what comes before each pair.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::new();
    for (index, &(_, new)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|&end| pairs[end].1 < new);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    std::iter::successors(ends.last().copied(), |&index| before[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rising_run_is_found() {
        let pairs: Vec<(usize, usize)> = [3, 0, 1, 4, 2, 5].into_iter().enumerate().collect();
        let mut run: Vec<usize> = longest_rising(&pairs).into_iter().map(|index| pairs[index].1).collect();
        run.reverse();
        assert_eq!(run, [0, 1, 2, 5]);
        assert_eq!(longest_rising(&[]), [0; 0]);
    }
}
