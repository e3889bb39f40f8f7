//! Class tables that go on growing while packets are judged by them.
//!
//! A name's addresses belong to its services, and to whatever prefixes cover them. The first address with a combination of services that no other had
//! needs a class of its own: a row, maybe a column of the source tables, maybe a port table. They go into room that was kept, what is pointed to
//! before what points to it.

use std::{collections::HashMap, ops::Range};

use enforcer_ebpf::abi::ROW_UNIT;

use super::{
    HOST_CLASSES,
    rows::{Group, Pattern, Rows, of_port, of_source},
    sets::{SetId, Sets},
};
use crate::policy::{ScheduleId, ServiceId};

/// A policy's class tables as they are, and the room that is left.
pub struct Live {
    pub(super) rows: Rows,
    /// Destination sets by service.
    pub(super) by_service: HashMap<ServiceId, u32>,
    /// Where each group's port table begins.
    pub(super) groups: HashMap<Group, u32>,
    /// Words kept for port tables.
    pub(super) group_room: Range<u32>,
    /// Where the source tables begin, if there are several.
    pub(super) by_source: Option<u32>,
    /// Words of a source class's part of them.
    pub(super) stride: u32,
    pub(super) sources: Sets,
    pub(super) ports: Sets,
    pub(super) moments: Vec<Vec<ScheduleId>>,
}

/// The kept room is used up; a policy that is loaded anew has room again.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for another combination of services; load the policy again")]
pub struct NoRoom;

impl Live {
    /// Words that are left: of rows, and of port tables.
    pub fn room(&self) -> [u32; 2] {
        [&self.rows.room, &self.group_room].map(|room| room.end - room.start)
    }

    /// Words of a source class's part of the source tables.
    pub const fn stride(&self) -> u32 {
        self.stride
    }

    /// The class of addresses that are of these services, and otherwise of a class that is there; the same class if the policy does not speak of them.
    /// Words that it takes are stored by number and value, in the order in which they may become visible.
    ///
    /// # Errors
    /// If there is no room left; all that was stored then is harmless.
    pub fn class(
        &mut self,
        outer: u32,
        services: &[ServiceId],
        store: &mut dyn FnMut(u32, u32),
    ) -> Result<u32, NoRoom> {
        let mut sets: Vec<u32> = services.iter().filter_map(|service| self.by_service.get(service)).copied().collect();
        if sets.is_empty() {
            return Ok(outer);
        }
        sets.extend(self.rows.sets.get(&outer).into_iter().flatten());
        sets.sort_unstable();
        sets.dedup();
        let (pattern, verdicts) = self.rows.row(&sets);
        let number = self.pattern(&pattern, store)?;
        let row = [&[number], &verdicts[..]].concat();
        // Prefixes may have classes that a host's cell cannot name.
        if let Some(&class) = self.rows.known.get(&row).filter(|class| **class < HOST_CLASSES as u32) {
            return Ok(class);
        }
        let start = take(&mut self.rows.room, (row.len() as u32).next_multiple_of(ROW_UNIT))?;
        for (index, &verdict) in verdicts.iter().enumerate() {
            store(start + 1 + index as u32, verdict);
        }
        let table = match self.by_source {
            Some(by_source) => by_source + number,
            None => self.group(&pattern, 0, 0, store)?,
        };
        store(start, table);
        let class = start / ROW_UNIT;
        self.rows.known.insert(row, class);
        self.rows.sets.insert(class, sets.into());
        Ok(class)
    }

    /// Whether rules of this policy name any of these services.
    pub fn names(&self, services: &[ServiceId]) -> bool {
        services.iter().any(|service| self.by_service.contains_key(service))
    }

    /// A pattern's number, with its column of the source tables.
    fn pattern(&mut self, pattern: &Pattern, store: &mut dyn FnMut(u32, u32)) -> Result<u32, NoRoom> {
        if let Some(&number) = self.rows.patterns.get(pattern) {
            return Ok(number);
        }
        let number = self.rows.patterns.len() as u32;
        if number >= self.stride {
            return Err(NoRoom);
        }
        let sources = self.sources.len();
        for part in 0..self.moments.len() * sources {
            let group = self.group(pattern, part / sources, part % sources, store)?;
            if let Some(by_source) = self.by_source {
                store(by_source + part as u32 * self.stride + number, group);
            }
        }
        self.rows.patterns.insert(pattern.clone(), number);
        Ok(number)
    }

    /// Where the port table begins for a pattern, a moment and a source class.
    fn group(
        &mut self,
        pattern: &Pattern,
        moment: usize,
        source: usize,
        store: &mut dyn FnMut(u32, u32),
    ) -> Result<u32, NoRoom> {
        let list = of_source(pattern, self.sources.get(source as SetId), &self.moments[moment]);
        if let Some(&start) = self.groups.get(&list) {
            return Ok(start);
        }
        let start = take(&mut self.group_room, self.ports.len() as u32)?;
        for class in 0..self.ports.len() as SetId {
            store(start + class, of_port(&list, self.ports.get(class)));
        }
        self.groups.insert(list, start);
        Ok(start)
    }
}

/// So many words of the room.
fn take(room: &mut Range<u32>, words: u32) -> Result<u32, NoRoom> {
    if room.end - room.start < words {
        return Err(NoRoom);
    }
    let start = room.start;
    room.start += words;
    Ok(start)
}
