//! Ranges of numbers, such as ports and minutes, cut where sets of them begin and end.

use std::{collections::BTreeSet, ops::Range};

use crate::compile::sets::{SetId, Sets};

/// The pieces of the `valid` ranges, in order, each with the sets that it lies in. A set's ranges are disjoint.
pub fn cut(valid: &[Range<u32>], sets: &[Vec<Range<u32>>], classes: &mut Sets) -> Vec<(Range<u32>, SetId)> {
    // What is inside changes at each end of a range; `None` is what is valid.
    let mut ends: Vec<(u32, Option<u32>)> = Vec::new();
    let all = sets.iter().enumerate().map(|(index, ranges)| (Some(index as u32), &ranges[..])).chain([(None, valid)]);
    for (set, ranges) in all {
        ends.extend(ranges.iter().flat_map(|range| [(range.start, set), (range.end, set)]));
    }
    ends.sort_unstable();
    let mut pieces = Vec::new();
    let (mut inside, mut from) = (BTreeSet::new(), 0);
    for same in ends.chunk_by(|a, b| a.0 == b.0) {
        let at = same[0].0;
        if at > from && inside.contains(&None) {
            let sets: Vec<u32> = inside.iter().copied().flatten().collect();
            pieces.push((from..at, classes.intern(&sets)));
        }
        for &(_, set) in same {
            if !inside.remove(&set) {
                inside.insert(set);
            }
        }
        from = at;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_sets_begin_and_end_and_only_where_it_is_valid() {
        let mut classes = Sets::default();
        let pieces = cut(&[0..10, 20..30], &[vec![5..25, 28..29], vec![0..5, 5..8]], &mut classes);
        let pieces: Vec<_> = pieces.into_iter().map(|(range, class)| (range, classes.get(class).to_vec())).collect();
        assert_eq!(
            pieces,
            [
                (0..5, vec![1]),
                (5..8, vec![0, 1]),
                (8..10, vec![0]),
                (20..25, vec![0]),
                (25..28, vec![]),
                (28..29, vec![0]),
                (29..30, vec![])
            ]
        );
    }
}
