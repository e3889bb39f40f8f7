//! The few IPv4 prefixes below a root cell, laid out as `enforcer_ebpf::span` looks for them.

use enforcer_ebpf::{
    abi::cell,
    group::{self, Line},
    span::{self, PARTS},
};

use super::prefixes::Prefix;

/// Lines of spans and groups, one behind another.
pub struct Lines {
    /// All so far.
    pub lines: Vec<Line>,
    /// Whether hosts lie below a root cell, by its index: their group's lines are there.
    hosts: Vec<bool>,
}

impl Lines {
    /// None yet, where these are hosts.
    pub fn above(hosts: &[Prefix<u32>]) -> Self {
        let mut above = vec![false; 1 << 16];
        hosts.iter().for_each(|host| above[(host.address >> 16) as usize] = true);
        Self { lines: Vec::new(), hosts: above }
    }

    /// The root cell of prefixes beyond /16, each after those that contain it, where `outer` is the leaf of all else; nothing if they are no span.
    pub fn add_span(&mut self, prefixes: &[Prefix<u32>], outer: u32) -> Option<u32> {
        let has_hosts = self.hosts[(prefixes[0].address >> 16) as usize];
        if has_hosts || prefixes.len() >= PARTS {
            return None;
        }
        let first_last = |prefix: &Prefix<u32>| {
            let first = prefix.address & 0xffff;
            (first, first + ((1 << (32 - prefix.length)) - 1))
        };
        let ends = prefixes.iter().map(first_last).flat_map(|(first, last)| [first, last + 1]);
        let mut beginnings: Vec<u32> = ends.filter(|&end| end <= 0xffff).chain([0]).collect();
        beginnings.sort_unstable();
        let leaf = |address: u32| {
            let covers = |prefix: &&Prefix<u32>| (first_last(prefix).0..=first_last(prefix).1).contains(&address);
            prefixes.iter().rfind(covers).map_or(outer, |prefix| prefix.value)
        };
        let mut parts: Vec<_> = beginnings.into_iter().map(|beginning| (beginning as u16, leaf(beginning))).collect();
        parts.dedup_by_key(|(_, leaf)| *leaf);
        if parts.len() > PARTS {
            return None;
        }
        self.lines.push(span::line(&parts));
        Some(cell::LINES | group::value(self.lines.len() as u32 - 1, span::MARK))
    }
}
