//! One axis of the space of flows.

use std::{collections::HashMap, rc::Rc};

use super::{TooMuch, space::Budget};
use crate::compile::sets::{SetId, Sets};

/// Values in classes: those of a class lie in the same sets.
pub struct Axis {
    /// The sets that each class lies in.
    sets: Sets,
    /// The classes that have values.
    pub classes: Vec<SetId>,
    parts: HashMap<Vec<u32>, Rc<[Part]>>,
    /// Lists of classes, so that a cell has small numbers for them.
    pub lists: Sets,
}

/// The classes that lie in the same ones of some sets.
pub struct Part {
    /// Which sets these are, sorted.
    pub inside: Vec<u32>,
    /// The classes, a number of [`Axis::lists`].
    pub classes: SetId,
}

impl Axis {
    /// An axis of those classes that have values.
    pub fn new(sets: Sets, mut classes: Vec<SetId>) -> Self {
        classes.sort_unstable();
        classes.dedup();
        Self { sets, classes, parts: HashMap::new(), lists: Sets::default() }
    }

    /// The sets that a class lies in.
    pub fn sets(&self, class: SetId) -> &[u32] {
        self.sets.get(class)
    }

    /// The axis in as few parts as these sets, sorted, ask for.
    pub fn split(&mut self, sets: &[u32], budget: &mut Budget) -> Result<Rc<[Part]>, TooMuch> {
        if let Some(known) = self.parts.get(sets) {
            return Ok(Rc::clone(known));
        }
        budget.spend(self.classes.len())?;
        let mut parts: HashMap<Vec<u32>, Vec<SetId>> = HashMap::new();
        for &class in &self.classes {
            let inside = self.sets.get(class).iter().copied().filter(|set| sets.binary_search(set).is_ok());
            parts.entry(inside.collect()).or_default().push(class);
        }
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_unstable();
        let lists = &mut self.lists;
        let parts: Rc<[Part]> =
            parts.into_iter().map(|(inside, classes)| Part { inside, classes: lists.intern(&classes) }).collect();
        self.parts.insert(sets.to_vec(), Rc::clone(&parts));
        Ok(parts)
    }

    /// All that several lists of classes hold, as one list.
    pub fn join(&mut self, lists: &[SetId]) -> SetId {
        if let [single] = lists {
            return *single;
        }
        let mut all: Vec<SetId> = lists.iter().flat_map(|&list| self.lists.get(list)).copied().collect();
        all.sort_unstable();
        all.dedup();
        self.lists.intern(&all)
    }
}
