//! Port sets to port classes: cells that lie in the same sets are one class.

use enforcer_ebpf::abi::{PORT_CELLS, slot};

use super::sets::{SetId, Sets};
use crate::policy::{PortMatch, Transport};

/// Cells `first..=last` of the port table.
pub type Range = (u32, u32);

/// The cells of a port set as disjoint ranges, sorted. Equal sets have equal ranges, however they were written.
pub fn ranges(ports: &[PortMatch]) -> Vec<Range> {
    merged(ports.iter().map(|&port| range(port)).collect())
}

/// The same of ranges in any order, which may overlap.
pub fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn range(port: PortMatch) -> Range {
    let cells = |slot: u32, first: u16, last: u16| (slot << 16 | u32::from(first), slot << 16 | u32::from(last));
    let icmp = |slot, kind: Option<u8>, code: Option<u8>| match (kind, code) {
        (None, _) => cells(slot, 0, u16::MAX),
        (Some(kind), None) => cells(slot, u16::from(kind) << 8, u16::from(kind) << 8 | 0xff),
        (Some(kind), Some(code)) => {
            let cell = u16::from(kind) << 8 | u16::from(code);
            cells(slot, cell, cell)
        }
    };
    match port {
        PortMatch::Any => (0, PORT_CELLS as u32 - 1),
        PortMatch::Ports { transport, first, last } => {
            let slot = match transport {
                Transport::Tcp => slot::TCP,
                Transport::Udp => slot::UDP,
                Transport::Sctp => slot::SCTP,
                Transport::UdpLite => slot::UDPLITE,
            };
            cells(slot, first, last)
        }
        PortMatch::Icmp { kind, code } => icmp(slot::ICMP, kind, code),
        PortMatch::Icmpv6 { kind, code } => icmp(slot::ICMPV6, kind, code),
        PortMatch::Protocol(number) => cells(slot::PORTLESS, u16::from(number), u16::from(number)),
    }
}

/// Fills the port table with classes and returns them: each a set of indices into `sets`. `None` if there would be more than `limit`
/// elements in all classes together, or more classes than a cell can name.
pub fn classes(sets: &[Vec<Range>], table: &mut [u16; PORT_CELLS], limit: usize) -> Option<Sets> {
    // Where a set begins or ends, the class changes.
    let mut edges: Vec<(u32, bool, u32)> = Vec::new();
    for (index, ranges) in sets.iter().enumerate() {
        for &(first, last) in ranges {
            edges.push((first, true, index as u32));
            edges.push((last + 1, false, index as u32));
        }
    }
    edges.sort_unstable();
    let mut classes = Sets::default();
    classes.intern(&[]);
    let mut inside: Vec<u32> = Vec::new();
    let (mut from, mut class): (usize, SetId) = (0, 0);
    for same in edges.chunk_by(|a, b| a.0 == b.0) {
        let at = same[0].0 as usize;
        table[from..at].fill(class as u16);
        from = at;
        for &(_, enters, index) in same {
            match (enters, inside.binary_search(&index)) {
                (true, Err(place)) => inside.insert(place, index),
                (false, Ok(place)) => {
                    inside.remove(place);
                }
                // Ranges of one set are disjoint and apart: it neither enters twice nor leaves unseen.
                _ => {}
            }
        }
        class = classes.intern(&inside);
        if classes.elements() > limit || class > SetId::from(u16::MAX) {
            return None;
        }
    }
    table[from..].fill(class as u16);
    Some(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_set_are_merged_and_sorted() {
        let tcp = |first, last| PortMatch::Ports { transport: Transport::Tcp, first, last };
        assert_eq!(
            ranges(&[tcp(80, 80), tcp(10, 20), tcp(21, 30), tcp(15, 25)]),
            [(0x1_000a, 0x1_001e), (0x1_0050, 0x1_0050)]
        );
    }

    #[test]
    fn a_cell_has_the_class_of_exactly_the_sets_that_hold_it() {
        let port = |transport, first, last| PortMatch::Ports { transport, first, last };
        let sets = [
            vec![port(Transport::Tcp, 0, 65_535)],
            vec![port(Transport::Tcp, 443, 443), port(Transport::Udp, 443, 500)],
            vec![PortMatch::Any],
            vec![PortMatch::Icmp { kind: Some(8), code: None }, PortMatch::Protocol(47)],
        ];
        let sets: Vec<_> = sets.iter().map(|set| ranges(set)).collect();
        let mut table: Box<[u16; PORT_CELLS]> = bytemuck::zeroed_box();
        let classes = classes(&sets, &mut table, 1000).expect("few");
        for (cell, &class) in table.iter().enumerate() {
            let wanted: Vec<u32> = (0..sets.len() as u32)
                .filter(|&set| sets[set as usize].iter().any(|&(first, last)| (first..=last).contains(&(cell as u32))))
                .collect();
            assert_eq!(classes.get(class.into()), wanted, "cell {cell:#x}");
        }
    }
}
