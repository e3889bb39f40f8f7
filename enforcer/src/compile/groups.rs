//! IPv4 hosts that a policy lists, laid out as `enforcer_ebpf::group` looks for them.

use enforcer_ebpf::{
    abi::{BLOCK_WORDS, Block, cell},
    group::{self, LINE_CELLS, Line, MOST_LINES},
    span,
};

/// Mean hosts in a line of 15, at most: with more, too many lines are overfull, and a group twice as large takes more cache than longer probes take time.
const MEAN: usize = 11;

/// Lines of a block.
const LINES: usize = BLOCK_WORDS / LINE_CELLS;

/// Most blocks: a root cell's value has no room for more lines.
const MOST_BLOCKS: usize = 1 << 20;
const _: () = assert!((MOST_BLOCKS * LINES - 1) as u32 == group::first_line(cell::VALUE) && span::MARK > MOST_LINES);

/// Replaces the root cells above hosts (addresses and classes, distinct) with groups, by a seed. What comes out are the blocks of all lines, those there were first; nothing
/// if there would be more blocks than there is room for.
pub fn build(
    root: &mut [u32; 1 << 16],
    hosts: &mut [(u32, u32)],
    mut lines: Vec<Line>,
    seed: u32,
    room: usize,
) -> Option<Vec<Block>> {
    let room = room.min(MOST_BLOCKS);
    hosts.sort_unstable();
    for below in hosts.chunk_by(|(one, _), (other, _)| one >> 16 == other >> 16) {
        let root = &mut root[(below[0].0 >> 16) as usize];
        let first = lines.len();
        let least = below.len().div_ceil(MEAN).next_power_of_two().ilog2();
        *root = cell::LINES
            | (least..=MOST_LINES)
                .find_map(|size| lay_out(&mut lines, group::value(first as u32, size), seed, *root, below))
                .expect("the largest group has room for all addresses");
        // Before they take all memory.
        if lines.len().div_ceil(LINES) > room {
            break;
        }
    }
    if lines.len().div_ceil(LINES) > room {
        return None;
    }
    lines.resize(lines.len().next_multiple_of(LINES), [0; LINE_CELLS]);
    Some(bytemuck::cast_slice_box(lines.into_boxed_slice()).into_vec())
}

/// Adds a group's lines, unless one would be overfull; its value.
fn lay_out(lines: &mut Vec<Line>, value: u32, seed: u32, cell: u32, hosts: &[(u32, u32)]) -> Option<u32> {
    let start = lines.len();
    lines.resize(
        start + (1 << group::lines(value)),
        std::array::from_fn(|index| if index == 0 { group::header(cell) } else { 0 }),
    );
    let is_full = hosts.iter().any(|&(address, class)| {
        let (line, first) = group::place(value, address, seed);
        let line = &mut lines[line as usize];
        let free = (0..LINE_CELLS).map(|step| (first + step) % LINE_CELLS).find(|&cell| line[cell] == 0);
        free.map(|free| line[free] = group::host(address, class)).is_none()
    });
    if is_full {
        lines.truncate(start);
        return None;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytemuck::Zeroable as _;
    use enforcer_ebpf::{abi::Layout, classify};
    use proptest::prelude::*;

    use super::*;

    const SEED: u32 = 0x9e37_79b9;

    fn lookup(root: &[u32; 1 << 16], blocks: &[Block], address: u32) -> u32 {
        let layout = Layout { seed: SEED, ..Layout::zeroed() };
        let block = |element| blocks.get(element as usize);
        classify::below4(&layout, root[(address >> 16) as usize], address, block).expect("a block that there is")
    }

    fn check(hosts: &HashMap<u32, u32>, others: &[u32]) {
        let mut root: Box<[u32; 1 << 16]> = bytemuck::zeroed_box();
        (0..).zip(root.iter_mut()).for_each(|(index, cell)| *cell = cell::BLOCK | index);
        let mut list: Vec<_> = hosts.iter().map(|(&address, &class)| (address, class)).collect();
        let blocks = build(&mut root, &mut list, Vec::new(), SEED, usize::MAX).expect("there is room");
        for &address in hosts.keys().chain(others) {
            let expected = hosts.get(&address).copied().unwrap_or(cell::BLOCK | address >> 16);
            assert_eq!(lookup(&root, &blocks, address), expected, "{address:#x}");
        }
    }

    proptest! {
        #[test]
        fn every_host_is_found_and_no_other(
            hosts in prop::collection::hash_map(prop_oneof![any::<u32>(), 0..0x3_0000_u32], 0..1_u32 << 15, 0..600),
            others in prop::collection::vec(prop_oneof![any::<u32>(), 0..0x3_0000_u32], 600),
        ) {
            check(&hosts, &others);
        }
    }

    #[test]
    fn all_addresses_may_be_hosts() {
        let hosts = (0x1100_0000..0x1101_0000).map(|address| (address, address & 0x7fff)).collect();
        check(&hosts, &[0x10ff_ffff, 0x1101_0000]);
    }

    #[test]
    fn a_million_scattered_hosts_take_less_than_ten_bytes_each() {
        let mut hosts: Vec<_> = (0..1_000_000_u32).map(|number| (number.wrapping_mul(0x9E37_79B1), 1)).collect();
        let mut root: Box<[u32; 1 << 16]> = bytemuck::zeroed_box();
        let blocks = build(&mut root, &mut hosts, Vec::new(), SEED, usize::MAX).expect("there is room").len();
        assert!(blocks * size_of::<Block>() < 10_000_000, "{blocks} blocks");
    }

    #[test]
    fn hosts_that_meet_under_one_seed_do_not_under_most_others() {
        let line = |address, seed| group::place(group::value(0, 12), address, seed).0;
        let mut hosts: Vec<_> =
            (0..1 << 16).filter(|&address| line(address, SEED) == 9).map(|address| (address, 1)).collect();
        assert_eq!(hosts.len(), 16);
        let mut blocks = |seed| {
            build(&mut bytemuck::zeroed_box(), &mut hosts, Vec::new(), seed, usize::MAX).expect("there is room").len()
        };
        assert_eq!(blocks(SEED), 512);
        let large = (0..1000_u32).filter(|seed| blocks(seed.wrapping_mul(0x9E37_79B1)) > 2).count();
        assert!(large < 50, "{large} of 1000");
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let mut hosts: Vec<_> = (0..1000_u32).map(|number| (number << 16, 1)).collect();
        let mut build =
            |room| build(&mut bytemuck::zeroed_box(), &mut hosts, Vec::new(), SEED, room).map(|blocks| blocks.len());
        assert_eq!((build(62), build(63)), (None, Some(63)));
    }
}
