//! The set of tables before the one in force, whose counts go on in it.

use crate::kernel::{KernelError, counters::Counters, object::Object, pins::Pins};

/// What is left of it.
pub struct Predecessor {
    counters: Counters,
    /// Pairs of counters that count the same, there and in the set in force.
    same: Vec<(usize, usize)>,
}

impl Predecessor {
    /// Of an object that was in force until now.
    pub fn of(object: Object, same: Vec<(usize, usize)>) -> Self {
        Self { counters: object.into_counters(), same }
    }

    /// The set that an earlier controller left in force, with the counts of those before it. Nothing, if there is none.
    ///
    /// # Errors
    /// If it cannot be read: it may be another version's.
    pub fn pinned(pins: &Pins, own: &Object) -> Result<Option<Self>, KernelError> {
        let running = pins.running();
        let sets: Vec<u32> = pins.sets().into_iter().filter(|&set| set != own.set()).collect();
        let last = sets.iter().copied().rfind(|&set| pins.runs(set, &running));
        let mut before: Option<Self> = None;
        for set in sets.into_iter().filter(|&set| last.is_some_and(|last| set <= last)) {
            let counters = Counters::pinned(&pins.set(set))?;
            if let Some(before) = before {
                let same = counters.same(&before.counters);
                counters.carry(&before.counters, &same);
            }
            before = Some(Self { counters, same: Vec::new() });
        }
        Ok(before.map(|before| Self { same: own.counters().same(&before.counters), ..before }))
    }

    /// Stores what it has counted so far as carried over.
    pub fn carry_to(&self, counters: &Counters) {
        counters.carry(&self.counters, &self.same);
    }
}
