//! Interned sets of small numbers: equal sets are one number.

use std::collections::HashMap;

/// A set's number. 0 is the first set interned, by convention the empty or the outermost one.
pub type SetId = u32;

/// Sets of `u32`, each stored once, sorted.
#[derive(Default)]
pub struct Sets {
    sets: Vec<Box<[u32]>>,
    numbers: HashMap<Box<[u32]>, SetId>,
    elements: usize,
}

impl Sets {
    /// The number of a set, given sorted and without repetition.
    pub fn intern(&mut self, set: &[u32]) -> SetId {
        if let Some(&number) = self.numbers.get(set) {
            return number;
        }
        let number = SetId::try_from(self.sets.len()).expect("fewer sets than prefixes");
        self.elements += set.len();
        self.sets.push(set.into());
        self.numbers.insert(set.into(), number);
        number
    }

    /// The union of a set and some numbers, sorted or not.
    pub fn union(&mut self, set: SetId, more: &[u32]) -> SetId {
        let mut union = self.sets[set as usize].to_vec();
        union.extend_from_slice(more);
        union.sort_unstable();
        union.dedup();
        self.intern(&union)
    }

    /// A set's elements.
    pub fn get(&self, set: SetId) -> &[u32] {
        &self.sets[set as usize]
    }

    /// How many sets there are.
    pub const fn len(&self) -> usize {
        self.sets.len()
    }

    /// Elements of all sets together: what the sets cost.
    pub const fn elements(&self) -> usize {
        self.elements
    }
}
