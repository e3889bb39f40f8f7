//! Clauses to class tables.
//!
//! A destination class is the ordered list of clauses that speak of it. Its row holds their verdicts; everything else depends only on their
//! source and port sets, the *pattern*, which few lists differ in: ten thousand rules over fifty sets of each have 2,500 patterns at most. A pattern
//! and a source class leave a list of port sets, the *group*; a group and a port class name the word of the row.

use std::collections::HashMap;

use enforcer_ebpf::abi::ROW_UNIT;

use super::{
    clauses::{ANY, Clause},
    sets::{SetId, Sets},
};
use crate::policy::ScheduleId;

/// Which table would be too large, and how many words it would have at least.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge(pub &'static str, pub usize);

/// Source set, port set and schedule of a destination's clauses, in order.
type Pattern = Vec<(u32, u32, u32)>;

/// Rows of destination sets as they are asked for.
pub struct Rows<'a> {
    clauses: &'a [Clause],
    /// Clauses by destination set, in order; those about any destination are last.
    by_destination: Vec<Vec<u32>>,
    any: Vec<u32>,
    words: Vec<u32>,
    known: HashMap<Vec<u32>, u32>,
    patterns: HashMap<Pattern, u32>,
    limit: usize,
}

impl<'a> Rows<'a> {
    /// No rows yet. `limit` bounds each table's words.
    pub fn new(clauses: &'a [Clause], destinations: usize, limit: usize) -> Self {
        let mut by_destination = vec![Vec::new(); destinations];
        let mut any = Vec::new();
        for (index, clause) in clauses.iter().enumerate() {
            match clause.destination {
                ANY => any.push(index as u32),
                set => by_destination[set as usize].push(index as u32),
            }
        }
        let (words, known, patterns) = (Vec::new(), HashMap::new(), HashMap::new());
        Self { clauses, by_destination, any, words, known, patterns, limit }
    }

    /// The class of addresses that lie in these destination sets.
    ///
    /// # Errors
    /// If the rows would exceed the limit.
    pub fn class(&mut self, destinations: &[u32]) -> Result<u32, TooLarge> {
        let mut order: Vec<u32> = self.any.clone();
        for &set in destinations {
            order.extend_from_slice(&self.by_destination[set as usize]);
        }
        order.sort_unstable();
        let mut pattern = Pattern::new();
        let mut row = vec![0];
        let mut seen = std::collections::HashSet::new();
        for index in order {
            let clause = &self.clauses[index as usize];
            let Clause { source, ports, when, .. } = *clause;
            // What an earlier clause took as a whole cannot match again.
            let taken =
                [(source, ANY, when), (ANY, ports, when), (source, ANY, ANY), (ANY, ports, ANY), (source, ports, ANY)];
            if taken.iter().any(|earlier| seen.contains(earlier)) || !seen.insert((source, ports, when)) {
                continue;
            }
            pattern.push((source, ports, when));
            row.push(clause.verdict.0);
            if (source, ports, when) == (ANY, ANY, ANY) {
                break;
            }
        }
        let next = self.patterns.len() as u32;
        row[0] = *self.patterns.entry(pattern).or_insert(next);
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
        Ok(class)
    }

    /// Row units so far: the next class.
    pub const fn units(&self) -> usize {
        self.words.len() / ROW_UNIT as usize
    }

    /// The tables one after another, when every destination has its row: rows, `[moment][source class][pattern]` (left out if there is one of the first
    /// two), `[group][port class]`; and how many patterns there are. Classes are sets of source and of port sets, a moment is the set of schedules
    /// that apply, sorted. A client's packets stay in its class's part of the second table, which is small enough for a near cache.
    ///
    /// # Errors
    /// If a table would exceed the limit.
    pub fn finish(
        mut self,
        sources: &Sets,
        ports: &Sets,
        moments: &[Vec<ScheduleId>],
    ) -> Result<(Vec<u32>, usize), TooLarge> {
        let mut patterns: Vec<(Pattern, u32)> = self.patterns.into_iter().collect();
        patterns.sort_unstable_by_key(|(_, number)| *number);
        let cells = patterns.len() * sources.len() * moments.len();
        if cells > self.limit {
            return Err(TooLarge("groups", cells));
        }
        let mut numbers: HashMap<Vec<(u32, u32)>, u32> = HashMap::new();
        let mut lists: Vec<Vec<(u32, u32)>> = Vec::new();
        let mut groups = Vec::with_capacity(cells);
        for (moment, class) in moments.iter().flat_map(|moment| (0..sources.len()).map(move |class| (moment, class))) {
            for (pattern, _) in &patterns {
                let list = of_source(pattern, sources.get(class as SetId), moment);
                let next = numbers.len() as u32;
                let group = *numbers.entry(list).or_insert_with_key(|list| {
                    lists.push(list.clone());
                    next
                });
                groups.push(group);
            }
            if lists.len() * ports.len() > self.limit {
                return Err(TooLarge("columns", lists.len() * ports.len()));
            }
        }
        // From here on, numbers become the places where their tables begin.
        let several = sources.len() * moments.len() > 1;
        let by_source = self.words.len();
        let by_port = by_source + if several { cells } else { 0 };
        let port_table = |group: u32| (by_port + group as usize * ports.len()) as u32;
        for class in self.known.into_values() {
            let table = &mut self.words[class as usize * ROW_UNIT as usize];
            let pattern = *table as usize;
            *table = if several { (by_source + pattern) as u32 } else { port_table(groups[pattern]) };
        }
        let mut words = self.words;
        if several {
            words.extend(groups.iter().map(|&group| port_table(group)));
        }
        for list in &lists {
            words.extend((0..ports.len()).map(|class| of_port(list, ports.get(class as SetId))));
        }
        Ok((words, patterns.len()))
    }
}

/// The clauses of a pattern that speak of a source class at a moment: port set and word of the row, up to one that takes every port.
fn of_source(pattern: &Pattern, sources: &[u32], moment: &[ScheduleId]) -> Vec<(u32, u32)> {
    let mut list: Vec<(u32, u32)> = Vec::new();
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
fn of_port(list: &[(u32, u32)], ports: &[u32]) -> u32 {
    let first = list.iter().find(|(set, _)| *set == ANY || ports.binary_search(set).is_ok());
    first.map_or(0, |&(_, word)| word)
}
