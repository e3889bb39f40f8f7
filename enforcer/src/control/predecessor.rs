//! The set of tables before the one in force, whose counts go on in it.

use crate::kernel::{KernelError, counters::Counters, object::Object, pins::Pins};

/// What is left of it.
pub struct Predecessor {
    counters: Counters,
    /// Pairs of counters that count the same, there and in the set in force.
    same: Vec<(usize, usize)>,
    /// The one before, if some of its programs may have run as long.
    before: Option<Box<Self>>,
}

impl Predecessor {
    /// Of an object that was in force until now.
    pub fn of(object: Object, same: Vec<(usize, usize)>) -> Self {
        Self { counters: object.into_counters(), same, before: None }
    }

    /// The set that an earlier controller left in force, with the counts of those before it. Nothing, if there is none. Sets of which no program is on an
    /// interface are forgotten: those before it when their counts are taken, those behind it as they never were in force.
    ///
    /// # Errors
    /// If it cannot be read: it may be another version's.
    pub fn pinned(pins: &Pins, own: &Object) -> Result<Option<Self>, KernelError> {
        let programs = pins.running()?;
        let sets: Vec<u32> = pins.sets().into_iter().filter(|&set| set != own.set()).collect();
        let running: Vec<u32> = sets.iter().copied().filter(|&set| pins.runs(set, &programs)).collect();
        let last = running.last().copied();
        let mut before: Option<Self> = None;
        for set in sets {
            let counters = if last.is_some_and(|last| set <= last) {
                Counters::pinned(&pins.set(set)).map(Some)
            } else {
                Ok(None)
            };
            if !running.contains(&set) {
                pins.forget(set);
            }
            let counters = match counters {
                Ok(Some(counters)) => counters,
                Err(error) if Some(set) == last => return Err(error),
                // It never was in force, or a crash has left a part of it.
                Ok(None) | Err(_) => continue,
            };
            let counts = |before: Self| Box::new(Self { same: counters.same(&before.counters), ..before });
            let earlier = before.map(counts);
            if let Some(earlier) = &earlier {
                earlier.carry_to(&counters);
            }
            before = Some(Self { before: earlier, counters, same: Vec::new() });
        }
        Ok(before.map(|before| Self { same: own.counters().same(&before.counters), ..before }))
    }

    /// Stores what it has counted so far as carried over.
    pub fn carry_to(&self, counters: &Counters) {
        if let Some(before) = &self.before {
            before.carry_to(&self.counters);
        }
        counters.carry(&self.counters, &self.same);
    }
}
