//! The compiled policy: every table as the kernel reads it.

use enforcer_ebpf::{
    abi::{
        BLOCK_WORDS, Block, Bucket, FlowKey, FragmentHead, FragmentKey, INLINE_WORDS, Keys6, LongKey, OverflowKey,
        POLICIES, PolicyId, Root, Verdict, Words6, cell,
    },
    classify,
    maps::{self, Maps},
};
use serde::Serialize;

use super::{addresses::Tables, clauses::Counted, live::Live};
use crate::net::image::Words;

/// A policy's tables, ready to be copied into maps or read where they are.
pub struct Image {
    /// By [`PolicyId`].
    pub roots: Box<[Root]>,
    /// Trie blocks and class tables of all policies, beyond what is in their roots, and their groups and spans.
    pub blocks: Vec<Block>,
    /// IPv4 host buckets, empty: for addresses of names.
    pub hosts4: Vec<Bucket>,
    /// IPv6 host buckets.
    pub hosts6: Vec<Bucket>,
    /// Keys of the IPv6 buckets.
    pub keys6: Vec<Keys6>,
    /// Hosts whose buckets were full, with their classes.
    pub overflow: Vec<(OverflowKey, u32)>,
    /// Prefixes of /65 to /127: bits of the address, key and class.
    pub long6: Vec<(u32, LongKey, u32)>,
    /// What each counter counts, from `pseudo::COUNT` on.
    pub counters: Vec<(PolicyId, Counted)>,
    /// One in how many packets makes an event, by sampling number.
    pub samplings: Vec<u32>,
    /// Words of a moment's source tables, by [`PolicyId`].
    pub moment_words: [u32; POLICIES],
    /// The class tables as they go on growing, by [`PolicyId`].
    pub live: Vec<Live>,
    /// What is settled before any rule; goes into the network's tables.
    pub words: Words,
    /// How much of everything there is.
    pub usage: Usage,
}

/// Sizes of an image's tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Distinct IPv4 prefixes with a meaning of their own.
    pub prefixes4: usize,
    /// The same of IPv6.
    pub prefixes6: usize,
    /// IPv4 hosts.
    pub hosts4: usize,
    /// IPv6 hosts.
    pub hosts6: usize,
    /// Clauses: pairs of rule and service.
    pub clauses: usize,
    /// Words of class tables.
    pub class_words: usize,
    /// Blocks of tries, spans, groups and class tables, 1 KiB each.
    pub blocks: usize,
    /// Bytes of all tables.
    pub bytes: usize,
}

impl Image {
    /// Where a policy's tables of a moment begin, as [`enforcer_ebpf::abi::Layout::moment`] has it.
    #[must_use]
    pub fn moment(&self, policy: usize, moment: usize) -> u32 {
        self.moment_words[policy] * moment as u32
    }

    /// Makes it a moment by its number, as the controller does in the kernel's copy.
    pub fn set_moment(&mut self, moment: usize) {
        for policy in 0..POLICIES {
            self.roots[policy].layout.moment = self.moment(policy, moment);
        }
    }
}

impl Tables for Image {
    fn root(&self, policy: PolicyId) -> &Root {
        &self.roots[policy as usize]
    }

    fn word(&self, policy: PolicyId, index: u32) -> Option<u32> {
        maps::word(self, &self.roots[policy as usize], index)
    }

    fn block(&self, element: u32) -> Option<&Block> {
        Maps::block(self, element)
    }

    fn long6(&self, space: u32, address: &Words6) -> Option<u32> {
        Maps::long6(self, space, address)
    }

    fn bucket(&self, v6: bool, bucket: u32) -> Bucket {
        if v6 { self.hosts6[bucket as usize] } else { self.hosts4[bucket as usize] }
    }

    fn key(&self, bucket: u32, cell: usize) -> Words6 {
        self.keys6[bucket as usize][cell]
    }

    fn overflow(&self, key: &OverflowKey) -> Option<u32> {
        Maps::overflow(self, key)
    }

    fn store_word(&mut self, policy: PolicyId, index: u32, value: u32) {
        let root = &mut self.roots[policy as usize];
        let index = index as usize;
        match root.words.get_mut(index) {
            Some(word) => *word = value,
            None => {
                let block = root.layout.blocks as usize + (index - INLINE_WORDS) / BLOCK_WORDS;
                self.blocks[block][index % BLOCK_WORDS] = value;
            }
        }
    }

    fn store(&mut self, v6: bool, bucket: u32, cell: usize, value: u64) {
        let table = if v6 { &mut self.hosts6 } else { &mut self.hosts4 };
        table[bucket as usize].0[cell] = value;
    }

    fn store_key(&mut self, bucket: u32, cell: usize, key: &Words6) {
        self.keys6[bucket as usize][cell] = *key;
    }

    fn store_overflow(&mut self, key: &OverflowKey, class: Option<u32>) -> bool {
        self.overflow.retain(|(other, _)| other != key);
        self.overflow.extend(class.map(|class| (*key, class)));
        true
    }

    fn mark(&mut self, policy: PolicyId, v6: bool, root: usize) {
        let Root { dst4, dst6, .. } = &mut self.roots[policy as usize];
        let cells = if v6 { dst6 } else { dst4 };
        cells[root] |= cell::HOSTS;
    }
}

/// The image read where it is, by the code that the kernel runs: no network facts, no state, nothing stamped.
impl Maps for Image {
    fn root(&self, policy: PolicyId) -> &Root {
        &self.roots[policy as usize]
    }

    fn block(&self, index: u32) -> Option<&Block> {
        self.blocks.get(index as usize)
    }

    fn admitted(&self) -> bool {
        false
    }

    fn epoch(&self) -> u16 {
        0
    }

    fn place6(&self, _: &Words6) -> Option<u32> {
        None
    }

    fn hosts4(&self, bucket: u32) -> Option<&Bucket> {
        self.hosts4.get(bucket as usize)
    }

    fn hosts6(&self, bucket: u32) -> Option<&Bucket> {
        self.hosts6.get(bucket as usize)
    }

    fn key6(&self, bucket: u32, cell: usize) -> Option<Words6> {
        Some(self.keys6.get(bucket as usize)?[cell])
    }

    fn overflow(&self, key: &OverflowKey) -> Option<u32> {
        self.overflow.iter().find(|(host, _)| host == key).map(|&(_, class)| class)
    }

    fn long6(&self, space: u32, address: &Words6) -> Option<u32> {
        let key = classify::long_key(space, address);
        let address = u128::from_be_bytes(key.address);
        let covers = |bits: u32, prefix: &LongKey| {
            prefix.space == key.space && (u128::from_be_bytes(prefix.address) ^ address) >> (128 - bits) == 0
        };
        let covering = self.long6.iter().filter(|(bits, prefix, _)| covers(*bits, prefix));
        covering.max_by_key(|(bits, ..)| *bits).map(|&(_, _, class)| class)
    }

    fn touch4(&self, _: u32, _: usize, _: u16) {}

    fn touch6(&self, _: u32, _: usize, _: u16) {}

    fn note(&self, _: u32) {}

    fn noted(&self) -> u32 {
        0
    }

    fn fragment(&self, _: &FragmentKey) -> Option<FragmentHead> {
        None
    }

    fn remember_fragment(&self, _: &FragmentKey, _: &FragmentHead) {}

    fn reply(&self, _: &FlowKey, _: u8) -> bool {
        false
    }

    fn judge4(&self, policy: PolicyId, source: u32, destination: u32, port: u32) -> Option<Verdict> {
        classify::judge4(self, policy, source, destination, port)
    }

    fn judge6(&self, policy: PolicyId, source: &Words6, destination: &Words6, port: u32) -> Option<Verdict> {
        classify::judge6(self, policy, source, destination, port)
    }
}
