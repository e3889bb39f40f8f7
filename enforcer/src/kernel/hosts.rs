//! A policy's tables in the kernel, as addresses of names are stored in them.

use std::mem::offset_of;

use aya::maps::{HashMap, LpmTrie, MapData, lpm_trie::Key};
use enforcer_ebpf::{
    abi::{
        BLOCK_WORDS, Block, Bucket, INLINE_WORDS, Keys6, Layout, LongKey, OverflowKey, PolicyId, Root, Words6, cell,
    },
    classify,
};

use super::{memory::Mapped, take::Raw};
use crate::compile::addresses::Tables;

/// The maps that an image fills.
pub struct Memory {
    pub(super) roots: Mapped<Root>,
    pub(super) blocks: Mapped<Block>,
    pub(super) hosts4: Mapped<Bucket>,
    pub(super) hosts6: Mapped<Bucket>,
    pub(super) keys6: Mapped<Keys6>,
    pub(super) overflow: HashMap<MapData, Raw<OverflowKey>, u32>,
    pub(super) long6: LpmTrie<MapData, Raw<LongKey>, u32>,
}

impl Memory {
    /// Lets a policy's tables of a moment apply, by where they begin: one store.
    pub(super) fn set_moment(&self, policy: usize, moment: u32) {
        let offset = policy * size_of::<Root>() + offset_of!(Root, layout) + offset_of!(Layout, moment);
        self.roots.store_changed(offset, &[moment]);
    }
}

impl Tables for Memory {
    fn root(&self, policy: PolicyId) -> &Root {
        self.roots.get(policy as usize)
    }

    fn word(&self, policy: PolicyId, index: u32) -> Option<u32> {
        let (root, index) = (self.root(policy), index as usize);
        Some(match root.words.get(index) {
            Some(word) => *word,
            None => {
                let beyond = index - INLINE_WORDS;
                self.blocks.get(root.layout.blocks as usize + beyond / BLOCK_WORDS)[beyond % BLOCK_WORDS]
            }
        })
    }

    fn block(&self, element: u32) -> Option<&Block> {
        Some(self.blocks.get(element as usize))
    }

    fn long6(&self, space: u32, address: &Words6) -> Option<u32> {
        /// Space and address.
        const BITS: u32 = 32 + 128;
        self.long6.get(&Key::new(BITS, Raw(classify::long_key(space, address))), 0).ok()
    }

    fn bucket(&self, v6: bool, bucket: u32) -> Bucket {
        if v6 { &self.hosts6 } else { &self.hosts4 }.read(bucket as usize)
    }

    fn key(&self, bucket: u32, cell: usize) -> Words6 {
        self.keys6.read(bucket as usize)[cell]
    }

    fn overflow(&self, key: &OverflowKey) -> Option<u32> {
        self.overflow.get(&Raw(*key), 0).ok()
    }

    fn store_word(&mut self, policy: PolicyId, index: u32, value: u32) {
        let index = index as usize;
        match index.checked_sub(INLINE_WORDS) {
            None => {
                let offset = policy as usize * size_of::<Root>() + offset_of!(Root, words) + index * 4;
                self.roots.store_changed(offset, &[value]);
            }
            Some(beyond) => {
                let first = self.root(policy).layout.blocks as usize * BLOCK_WORDS;
                self.blocks.store_changed((first + beyond) * 4, &[value]);
            }
        }
    }

    fn store(&mut self, v6: bool, bucket: u32, cell: usize, value: u64) {
        let table = if v6 { &self.hosts6 } else { &self.hosts4 };
        table.store_cell(bucket as usize * size_of::<Bucket>() + cell * 8, value);
    }

    fn store_key(&mut self, bucket: u32, cell: usize, key: &Words6) {
        self.keys6.store_changed(bucket as usize * size_of::<Keys6>() + cell * size_of::<Words6>(), key);
    }

    fn store_overflow(&mut self, key: &OverflowKey, class: Option<u32>) -> bool {
        match class {
            Some(class) => self.overflow.insert(Raw(*key), class, 0).is_ok(),
            None => self.overflow.remove(&Raw(*key)).is_ok(),
        }
    }

    fn mark(&mut self, policy: PolicyId, v6: bool, root: usize) {
        let Root { dst4, dst6, .. } = self.root(policy);
        let value = if v6 { dst6 } else { dst4 }[root] | cell::HOSTS;
        let field = if v6 { offset_of!(Root, dst6) } else { offset_of!(Root, dst4) };
        self.roots.store_changed(policy as usize * size_of::<Root>() + field + root * 4, &[value]);
    }
}
