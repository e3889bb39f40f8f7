//! Stride tries: roots of 65,536 cells and blocks of 256, as `classify::walk4` and `walk6` read them.

use bytemuck::Pod;
use enforcer_ebpf::abi::{BLOCK_WORDS, Block, NODE_WORDS, Single, Skip, cell};

use super::{prefixes::Prefix, spans::Lines};

/// Blocks of several tries, numbered from a first one on.
pub struct Blocks {
    blocks: Vec<Block>,
    first: u32,
    limit: usize,
    /// Block that nodes go to, and how many it has.
    nodes: Option<(usize, usize)>,
}

impl Blocks {
    /// No blocks yet; the first will have this number. Beyond the limit there is one more, that all share: the tries mean nothing then.
    #[must_use]
    pub const fn from(first: u32, limit: usize) -> Self {
        // A cell has no room for the numbers of more words; one more block is the shared one.
        let room = ((cell::VALUE as usize + 1) / BLOCK_WORDS).saturating_sub(first as usize + 1);
        Self { blocks: Vec::new(), first, limit: if limit < room { limit } else { room }, nodes: None }
    }

    /// Whether more would have been needed than the limit.
    #[must_use]
    pub const fn exceeded(&self) -> bool {
        self.blocks.len() > self.limit
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.blocks.len()
    }

    /// The blocks.
    #[must_use]
    pub fn into_blocks(self) -> Vec<Block> {
        self.blocks
    }

    fn add(&mut self, block: Block) -> usize {
        if !self.exceeded() {
            self.blocks.push(block);
        }
        self.blocks.len() - 1
    }

    fn cell(&self, index: usize) -> u32 {
        cell::BLOCK | (self.first + index as u32)
    }

    fn add_node<N: Pod>(&mut self, node: N) -> u32 {
        const PER_BLOCK: usize = BLOCK_WORDS / NODE_WORDS;
        let (block, used) = match self.nodes {
            Some((block, used)) if used < PER_BLOCK => (block, used),
            _ => (self.add([0; BLOCK_WORDS]), 0),
        };
        self.nodes = Some((block, used + 1));
        self.blocks[block][used * NODE_WORDS..][..NODE_WORDS].copy_from_slice(bytemuck::cast_slice(&[node]));
        cell::NODE | ((self.first + block as u32) * BLOCK_WORDS as u32 + (used * NODE_WORDS) as u32)
    }
}

/// Builds an IPv4 trie: 16, 8 and 8 bits. Prefixes are sorted so that each comes after those that contain it, and their values are leaves (below
/// 2^28); `default` is the leaf of addresses that no prefix covers. With lines, few prefixes below a root cell become spans.
pub fn build4(
    root: &mut [u32; 1 << 16],
    prefixes: &[Prefix<u32>],
    default: u32,
    blocks: &mut Blocks,
    mut lines: Option<&mut Lines>,
) {
    root.fill(default);
    for group in prefixes.chunk_by(|a, b| a.length > 16 && b.length > 16 && a.address >> 16 == b.address >> 16) {
        let Prefix { address, length, value } = group[0];
        let cell = &mut root[(address >> 16) as usize];
        match group {
            _ if length <= 16 => root[(address >> 16) as usize..][..1 << (16 - length)].fill(value),
            [_] => {
                *cell = blocks.add_node(Single { address, mask: u32::MAX << (32 - length), hit: value, miss: *cell });
            }
            _ => match lines.as_mut().and_then(|lines| lines.add_span(group, *cell)) {
                Some(span) => *cell = span,
                None => group.iter().for_each(|prefix| insert4(cell, prefix, blocks)),
            },
        }
    }
}

/// Adds a prefix beyond /16 below a root cell.
fn insert4(cell: &mut u32, prefix: &Prefix<u32>, blocks: &mut Blocks) {
    let Prefix { address, length, value } = *prefix;
    let block = child(cell, blocks);
    let at = (address >> 8) as usize & 0xff;
    if length <= 24 {
        blocks.blocks[block][at..][..1 << (24 - length)].fill(value);
    } else {
        let mut inner = blocks.blocks[block][at];
        let last = child(&mut inner, blocks);
        blocks.blocks[block][at] = inner;
        blocks.blocks[last][address as usize & 0xff..][..1 << (32 - length)].fill(value);
    }
}

/// The block behind a cell; a leaf becomes a block full of it.
fn child(cell: &mut u32, blocks: &mut Blocks) -> usize {
    if *cell & cell::BLOCK != 0 {
        return (*cell & cell::VALUE) as usize - blocks.first as usize;
    }
    let index = blocks.add([*cell; BLOCK_WORDS]);
    *cell = blocks.cell(index);
    index
}

/// Builds an IPv6 trie to /64: 16 bits, then strides of 8 with nodes where only one way leads on. Longer prefixes must not be among those given.
pub fn build6(root: &mut [u32; 1 << 16], prefixes: &[Prefix<u128>], default: u32, blocks: &mut Blocks) {
    root.fill(default);
    for group in prefixes.chunk_by(|a, b| a.length > 16 && b.length > 16 && a.address >> 112 == b.address >> 112) {
        let Prefix { address, length, value } = group[0];
        let index = (address >> 112) as usize;
        if length <= 16 {
            root[index..][..1 << (16 - length)].fill(value);
        } else {
            root[index] = node(group, 16, root[index], blocks);
        }
    }
}

/// The cell for addresses below a node `depth` bits deep, whose own leaf is `leaf`; all prefixes are longer and below it.
fn node(prefixes: &[Prefix<u128>], depth: u8, leaf: u32, blocks: &mut Blocks) -> u32 {
    let (Some(first), Some(last)) = (prefixes.first(), prefixes.last()) else { return leaf };
    let shortest = prefixes.iter().map(|prefix| prefix.length).min().unwrap_or(depth);
    let common = ((first.address ^ last.address).leading_zeros() as u8).min(shortest);
    let is_single = prefixes.len() == 1;
    let bits = if is_single { first.length - depth } else { (common - depth) / 8 * 8 };
    // One stride alone is faster as a block.
    if is_single || bits >= 16 {
        let below = depth + bits;
        // Sorted: a prefix that ends right here is the first one.
        let (inner, rest) = if first.length == below { (first.value, &prefixes[1..]) } else { (leaf, prefixes) };
        let hit = node(rest, below, inner, blocks);
        let compared = (first.address << depth >> (128 - bits) << (64 - bits)) as u64;
        let low = compared as u32 | u32::from(bits);
        return blocks.add_node(Skip { high: (compared >> 32) as u32, low, hit, miss: leaf });
    }
    let index = blocks.add([leaf; BLOCK_WORDS]);
    let slot = |prefix: &Prefix<u128>| (prefix.address >> (120 - depth)) as usize & 0xff;
    let below = depth + 8;
    for group in prefixes.chunk_by(|a, b| a.length > below && b.length > below && slot(a) == slot(b)) {
        let at = slot(&group[0]);
        if group[0].length <= below {
            blocks.blocks[index][at..][..1 << (below - group[0].length)].fill(group[0].value);
        } else {
            let cell = node(group, below, blocks.blocks[index][at], blocks);
            blocks.blocks[index][at] = cell;
        }
    }
    blocks.cell(index)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use enforcer_ebpf::{
        abi::{Layout, Words6},
        classify,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::compile::{groups, prefixes::Address};

    fn sorted<A: Address>(mut prefixes: Vec<Prefix<A>>) -> Vec<Prefix<A>> {
        prefixes.sort_unstable();
        prefixes.dedup_by_key(|prefix| (prefix.address, prefix.length));
        prefixes
    }

    fn longest<A: Address>(prefixes: &[Prefix<A>], address: A) -> u32 {
        let covering = prefixes.iter().filter(|prefix| address.network(prefix.length) == prefix.address);
        covering.max_by_key(|prefix| prefix.length).map_or(0, |prefix| prefix.value)
    }

    fn words(address: u128) -> Words6 {
        [96, 64, 32, 0].map(|shift| (address >> shift) as u32)
    }

    fn word(blocks: &[Block], first: u32, index: u32) -> Option<u32> {
        Some(blocks.get((index / 256 - first) as usize)?[index as usize % 256])
    }

    #[test]
    fn blocks_whose_words_no_cell_can_count_are_refused() {
        /// Where two blocks are left, besides the shared one.
        const LAST: u32 = (1 << 20) - 3;
        // A block below a root cell, and one below each cell of that one.
        let exceeded = |cells: u32| {
            let prefixes: Vec<_> = (0..cells).map(|cell| Prefix { address: cell << 8, length: 32, value: 1 }).collect();
            let mut blocks = Blocks::from(LAST, usize::MAX);
            let mut root = bytemuck::zeroed_box();
            build4(&mut root, &prefixes, 0, &mut blocks, None);
            if !blocks.exceeded() {
                assert_eq!(classify::walk4(root[0], 0, &|index| word(&blocks.blocks, LAST, index)), Some(1));
            }
            blocks.exceeded()
        };
        assert_eq!([1, 2].map(exceeded), [false, true]);
    }

    /// Addresses that share most bits, with a few flipped, so that prefixes nest, split skips and end at stride boundaries.
    fn near6() -> impl Strategy<Value = u128> {
        prop::collection::vec(0..72_u32, 0..4).prop_map(|flips| {
            flips.iter().fold(0x2620_0149_0a44_0001_u128 << 64, |address, flip| address ^ 1 << (127 - flip))
        })
    }

    proptest! {
        #[test]
        fn an_ipv4_walk_finds_the_longest_prefix(
            raw in prop::collection::vec((any::<u32>(), 0..=32_u8, 1..1000_u32), 0..60),
            near in prop::collection::vec((any::<prop::sample::Index>(), any::<i8>()), 1..40),
            first in 0..9_u32,
            with_lines in any::<bool>(),
        ) {
            // A narrow range, so that prefixes overlap.
            let prefixes = sorted(raw.iter().map(|&(address, length, value)| {
                Prefix { address: (address & 0x0103_0fff).network(length), length, value }
            }).collect());
            let mut root = vec![0; 1 << 16];
            let root: &mut [u32; 1 << 16] = root.as_mut_slice().try_into().expect("its length");
            let mut blocks = Blocks::from(first, 10_000);
            let mut lines = Lines::above(&[]);
            build4(root, &prefixes, 0, &mut blocks, with_lines.then_some(&mut lines));
            let blocks = blocks.into_blocks();
            let lines = groups::build(root, &mut [], lines.lines, 0, usize::MAX).expect("there is room");
            for (index, offset) in near {
                let base = if prefixes.is_empty() { 0 } else { index.get(&prefixes).address };
                let address = base.wrapping_add_signed(i32::from(offset));
                let line = |element| lines.get(element as usize);
                let cell = classify::below4(&Layout::zeroed(), root[(address >> 16) as usize], address, line);
                let leaf = cell.and_then(|cell| classify::walk4(cell, address, &|index| word(&blocks, first, index)));
                prop_assert_eq!(leaf, Some(longest(&prefixes, address)));
            }
        }

        #[test]
        fn an_ipv6_walk_finds_the_longest_prefix(
            raw in prop::collection::vec((near6(), 0..=64_u8, 1..1000_u32), 0..60),
            asked in prop::collection::vec(near6(), 1..60),
            first in 0..9_u32,
        ) {
            let prefixes = sorted(raw.iter().map(|&(address, length, value)| {
                Prefix { address: address.network(length), length, value }
            }).collect());
            let mut root = vec![0; 1 << 16];
            let root: &mut [u32; 1 << 16] = root.as_mut_slice().try_into().expect("its length");
            let mut blocks = Blocks::from(first, 10_000);
            build6(root, &prefixes, 0, &mut blocks);
            let blocks = blocks.into_blocks();
            for address in asked.into_iter().chain(prefixes.iter().map(|prefix| prefix.address)) {
                let root = root[(address >> 112) as usize];
                let leaf = classify::walk6(root, &words(address), &|index| word(&blocks, first, index));
                prop_assert_eq!(leaf, Some(longest(&prefixes, address)), "{:032x}", address);
            }
        }
    }

    #[test]
    fn a_scattered_ipv6_prefix_costs_a_skip_node_not_a_block_per_stride() {
        let prefixes: Vec<_> = (0..32_u128)
            .map(|n| Prefix { address: (0x2000 + n) << 112 | 0x1234_5678 << 80, length: 48, value: 1 })
            .collect();
        let mut root = vec![0; 1 << 16];
        let mut blocks = Blocks::from(0, 10_000);
        build6(root.as_mut_slice().try_into().expect("its length"), &prefixes, 0, &mut blocks);
        assert_eq!(blocks.count(), 1);
    }

    #[test]
    fn a_lone_ipv4_prefix_below_a_root_cell_costs_a_node_not_a_block() {
        let prefixes: Vec<_> =
            (0..64_u32).map(|n| Prefix { address: (0x1000 + n) << 16 | 0x1230, length: 28, value: 1 }).collect();
        let mut root = vec![0; 1 << 16];
        let mut blocks = Blocks::from(0, 10_000);
        build4(root.as_mut_slice().try_into().expect("its length"), &prefixes, 0, &mut blocks, None);
        assert_eq!(blocks.count(), 1);
    }

    #[test]
    fn five_ipv4_prefixes_below_a_root_cell_cost_a_line_not_a_block() {
        let below = |cell: u32| (1..6).map(move |n| Prefix { address: cell << 16 | n << 9, length: 24, value: n });
        let mut root: Vec<u32> = vec![0; 1 << 16];
        let (mut blocks, mut lines) = (Blocks::from(0, 10_000), Lines::above(&[]));
        let prefixes: Vec<_> = (0x1000..0x1040).flat_map(below).collect();
        let root: &mut [u32; 1 << 16] = root.as_mut_slice().try_into().expect("its length");
        build4(root, &prefixes, 0, &mut blocks, Some(&mut lines));
        assert_eq!((blocks.count(), lines.lines.len()), (0, 64));
    }
}
