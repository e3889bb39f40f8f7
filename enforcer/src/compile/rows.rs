//! Clauses to class tables.
//!
//! A destination class is the ordered list of clauses that speak of it. Its row holds their verdicts; everything else depends only on their
//! source and port sets, the *pattern*, which few lists differ in: ten thousand rules over fifty sets of each have 2,500 patterns at most. A pattern
//! and a source class leave a list of port sets, the *group*; a group and a port class name the word of the row.
//!
//! Where names stand for addresses that come later, the tables have room for the classes of combinations not seen yet ([`super::live`]).

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use enforcer_ebpf::abi::ROW_UNIT;

use super::{
    clauses::{ANY, Clause},
    live::Live,
    sets::{SetId, Sets},
};
use crate::policy::{ScheduleId, ServiceId};

/// Which table would be too large, and how many words it would have at least.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge(pub &'static str, pub usize);

/// Source set, port set and schedule of a destination's clauses, in order.
pub type Pattern = Vec<(u32, u32, u32)>;

/// Port set and word of the row, by the clauses that speak of a source class.
pub type Group = Vec<(u32, u32)>;

/// Patterns that may come later.
const SPARE_PATTERNS: usize = 128;
/// Groups that may come later, at least.
const SPARE_GROUPS: usize = 128;
/// Words of their port tables, unless fewer would do; half of what a root has, so that most tries' blocks still lie there.
const SPARE_GROUP_WORDS: usize = 32_768;
/// Words of rows that may come later.
const SPARE_ROWS: usize = 8192;

/// Rows of destination sets as they are asked for.
pub struct Rows {
    clauses: Vec<Clause>,
    /// Clauses by destination set, in order; those about any destination are last.
    by_destination: Vec<Vec<u32>>,
    any: Vec<u32>,
    words: Vec<u32>,
    /// Classes by their row, the number of its pattern first.
    pub known: HashMap<Vec<u32>, u32>,
    /// The destination sets that each class was first asked for.
    pub sets: HashMap<u32, Box<[u32]>>,
    pub patterns: HashMap<Pattern, u32>,
    /// Words kept for rows that come later.
    pub room: Range<u32>,
    limit: usize,
}

impl Rows {
    /// No rows yet. `limit` bounds each table's words.
    pub fn new(clauses: &[Clause], destinations: usize, limit: usize) -> Self {
        let mut by_destination = vec![Vec::new(); destinations];
        let mut any = Vec::new();
        for (index, clause) in clauses.iter().enumerate() {
            match clause.destination {
                ANY => any.push(index as u32),
                set => by_destination[set as usize].push(index as u32),
            }
        }
        Self {
            clauses: clauses.to_vec(),
            by_destination,
            any,
            words: Vec::new(),
            known: HashMap::new(),
            sets: HashMap::new(),
            patterns: HashMap::new(),
            room: 0..0,
            limit,
        }
    }

    /// The pattern of addresses that lie in these destination sets, and their row's verdicts.
    pub fn row(&self, destinations: &[u32]) -> (Pattern, Vec<u32>) {
        let mut order: Vec<u32> = self.any.clone();
        for &set in destinations {
            order.extend_from_slice(&self.by_destination[set as usize]);
        }
        order.sort_unstable();
        let (mut pattern, mut verdicts) = (Pattern::new(), Vec::new());
        let mut seen = HashSet::new();
        for index in order {
            let Clause { source, ports, when, verdict, .. } = self.clauses[index as usize];
            // What an earlier clause took as a whole cannot match again.
            let taken =
                [(source, ANY, when), (ANY, ports, when), (source, ANY, ANY), (ANY, ports, ANY), (source, ports, ANY)];
            if taken.iter().any(|earlier| seen.contains(earlier)) || !seen.insert((source, ports, when)) {
                continue;
            }
            pattern.push((source, ports, when));
            verdicts.push(verdict.0);
            if (source, ports, when) == (ANY, ANY, ANY) {
                break;
            }
        }
        (pattern, verdicts)
    }

    /// The class of addresses that lie in these destination sets.
    ///
    /// # Errors
    /// If the rows would exceed the limit.
    pub fn class(&mut self, destinations: &[u32]) -> Result<u32, TooLarge> {
        let (pattern, verdicts) = self.row(destinations);
        let next = self.patterns.len() as u32;
        let number = *self.patterns.entry(pattern).or_insert(next);
        let row = [&[number], &verdicts[..]].concat();
        if let Some(&class) = self.known.get(&row) {
            return Ok(class);
        }
        let class = (self.words.len() / ROW_UNIT as usize) as u32;
        self.words.extend_from_slice(&row);
        self.words.resize(self.words.len().next_multiple_of(ROW_UNIT as usize), 0);
        if self.words.len() > self.limit {
            return Err(TooLarge("rows", self.words.len()));
        }
        self.known.insert(row, class);
        self.sets.insert(class, destinations.into());
        Ok(class)
    }

    /// Keeps room behind the rows so far for those that come later.
    pub fn keep_room(&mut self) {
        let start = self.words.len();
        self.words.resize(start + SPARE_ROWS, 0);
        self.room = start as u32..self.words.len() as u32;
    }

    /// Row units so far: the next class.
    pub const fn units(&self) -> usize {
        self.words.len() / ROW_UNIT as usize
    }

    /// The tables one after another, when every destination has its row: rows, `[moment][source class][pattern]` (left out if there is one of the first
    /// two), `[group][port class]`; and what it takes to add classes later. Classes are sets of source and of port sets, a moment is the set of schedules
    /// that apply, sorted. A client's packets stay in its class's part of the second table, which is small enough for a near cache.
    ///
    /// # Errors
    /// If a table would exceed the limit.
    pub fn finish(
        mut self,
        sources: Sets,
        ports: Sets,
        by_service: HashMap<ServiceId, u32>,
        moments: &[Vec<ScheduleId>],
    ) -> Result<(Vec<u32>, Live), TooLarge> {
        let mut patterns: Vec<(&Pattern, u32)> =
            self.patterns.iter().map(|(pattern, number)| (pattern, *number)).collect();
        patterns.sort_unstable_by_key(|(_, number)| *number);
        let (spare_patterns, spare_groups) = if self.room.is_empty() {
            (0, 0)
        } else {
            // A pattern may be another group for each source class and moment.
            let most = SPARE_PATTERNS * sources.len() * moments.len();
            (SPARE_PATTERNS, most.min(SPARE_GROUP_WORDS / ports.len()).max(SPARE_GROUPS))
        };
        let stride = patterns.len() + spare_patterns;
        let cells = stride * sources.len() * moments.len();
        if cells > self.limit {
            return Err(TooLarge("groups", cells));
        }
        let mut numbers: HashMap<Group, u32> = HashMap::new();
        let mut lists: Vec<Group> = Vec::new();
        let mut groups = Vec::with_capacity(cells);
        for (moment, class) in moments.iter().flat_map(|moment| (0..sources.len()).map(move |class| (moment, class))) {
            for (pattern, _) in &patterns {
                let list = of_source(pattern, sources.get(class as SetId), moment);
                let next = numbers.len() as u32;
                let group = *numbers.entry(list).or_insert_with_key(|list| {
                    lists.push(list.clone());
                    next
                });
                groups.push(Some(group));
            }
            groups.resize(groups.len() + spare_patterns, None);
            if (lists.len() + spare_groups) * ports.len() > self.limit {
                return Err(TooLarge("columns", (lists.len() + spare_groups) * ports.len()));
            }
        }
        // From here on, numbers become the places where their tables begin.
        let several = sources.len() * moments.len() > 1;
        let by_source = self.words.len();
        let by_port = by_source + if several { cells } else { 0 };
        let port_table = |group: Option<u32>| group.map_or(0, |group| (by_port + group as usize * ports.len()) as u32);
        for (row, class) in &self.known {
            let table = if several { by_source as u32 + row[0] } else { port_table(groups[row[0] as usize]) };
            self.words[*class as usize * ROW_UNIT as usize] = table;
        }
        let mut words = std::mem::take(&mut self.words);
        if several {
            words.extend(groups.iter().map(|&group| port_table(group)));
        }
        for list in &lists {
            words.extend((0..ports.len()).map(|class| of_port(list, ports.get(class as SetId))));
        }
        let group_room = words.len() as u32..(words.len() + spare_groups * ports.len()) as u32;
        words.resize(group_room.end as usize, 0);
        numbers.values_mut().for_each(|group| *group = port_table(Some(*group)));
        let by_source = several.then_some(by_source as u32);
        let live = Live {
            rows: self,
            by_service,
            groups: numbers,
            group_room,
            by_source,
            stride: stride as u32,
            sources,
            ports,
            moments: moments.to_vec(),
        };
        Ok((words, live))
    }
}

/// The clauses of a pattern that speak of a source class at a moment: port set and word of the row, up to one that takes every port.
pub fn of_source(pattern: &Pattern, sources: &[u32], moment: &[ScheduleId]) -> Group {
    let mut list = Group::new();
    for (index, &(source, ports, when)) in pattern.iter().enumerate() {
        let applies = when == ANY || moment.binary_search(&ScheduleId(when)).is_ok();
        if applies && (source == ANY || sources.binary_search(&source).is_ok()) {
            list.push((ports, index as u32 + 1));
            if ports == ANY {
                break;
            }
        }
    }
    list
}

/// The row's word for the first clause that takes a port class; 0 if there is none.
pub fn of_port(list: &[(u32, u32)], ports: &[u32]) -> u32 {
    let first = list.iter().find(|(set, _)| *set == ANY || ports.binary_search(set).is_ok());
    first.map_or(0, |&(_, word)| word)
}
