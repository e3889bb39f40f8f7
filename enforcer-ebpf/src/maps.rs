//! The data plane's memory, as its pure code sees it.

use core::hint;

use bytemuck::Pod;

use crate::abi::{
    BLOCK_WORDS, Block, Bucket, FlowKey, FragmentHead, FragmentKey, INLINE_WORDS, NODE_WORDS, OverflowKey, PolicyId,
    Root, Verdict, Words6,
    cell::{NODE, VALUE},
};
use crate::bounded::bounded;

/// Tables that user space writes and state that packets leave behind. `None` from a table that must have the cell is a defect and ends in
/// [`crate::abi::pseudo::FAULT`].
pub trait Maps {
    /// A policy's roots.
    fn root(&self, policy: PolicyId) -> &Root;
    /// An element of `BLOCKS`: policies' blocks beyond those in their roots.
    fn block(&self, element: u32) -> Option<&Block>;
    /// The epoch that host cells are stamped with.
    fn epoch(&self) -> u16;
    /// Whether the portal has admitted the packet's sender.
    fn admitted(&self) -> bool;
    /// Place by the longest IPv6 prefix beyond /64.
    fn place6(&self, address: &Words6) -> Option<u32>;
    /// A bucket of IPv4 hosts.
    fn hosts4(&self, bucket: u32) -> Option<&Bucket>;
    /// A bucket of IPv6 hosts.
    fn hosts6(&self, bucket: u32) -> Option<&Bucket>;
    /// The address of an IPv6 host cell.
    fn key6(&self, bucket: u32, cell: usize) -> Option<Words6>;
    /// Class of a host that its full bucket could not take.
    fn overflow(&self, key: &OverflowKey) -> Option<u32>;
    /// Class of the longest prefix of /65 to /127 in a space: a policy's destinations, or its sources.
    fn long6(&self, space: u32, address: &Words6) -> Option<u32>;
    /// Stamps a host cell: two bytes, never the whole cell, which user space may just be deleting.
    fn touch4(&self, bucket: u32, cell: usize, epoch: u16);
    /// The same for IPv6.
    fn touch6(&self, bucket: u32, cell: usize, epoch: u16);
    /// Keeps the place of a host cell, `bucket << 3 | cell`, until the packet's verdict.
    fn note(&self, place: u32);
    /// The place that was kept.
    fn noted(&self) -> u32;
    /// The allowed head of a fragmented packet.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentHead>;
    /// Remembers an allowed head.
    fn remember_fragment(&self, key: &FragmentKey, head: &FragmentHead);
    /// Whether a connection from outside is known, of which the inside sends a packet with these TCP flags.
    fn reply(&self, key: &FlowKey, tcp_flags: u8) -> bool;
    /// [`crate::classify::judge4`], out of line where that pays.
    fn judge4(&self, policy: PolicyId, source: u32, destination: u32, port: u32) -> Option<Verdict>;
    /// [`crate::classify::judge6`], likewise.
    fn judge6(&self, policy: PolicyId, source: &Words6, destination: &Words6, port: u32) -> Option<Verdict>;
}

/// What tries are made of: words of their blocks, and nodes of [`NODE_WORDS`] words. `None` only if there is no such block.
pub trait Tries {
    /// A word.
    fn word(&self, index: u32) -> Option<u32>;
    /// The node that a cell leads to which has [`NODE`] and no flag above it. Its words are stored before the cell is, and no others for as long as it does.
    fn node(&self, cell: u32) -> Option<[u32; NODE_WORDS]>;
}

/// Tables of user space, which look for each word by itself.
impl<F: Fn(u32) -> Option<u32>> Tries for F {
    fn word(&self, index: u32) -> Option<u32> {
        self(index)
    }

    fn node(&self, cell: u32) -> Option<[u32; NODE_WORDS]> {
        let first = cell & VALUE;
        Some([self(first)?, self(first + 1)?, self(first + 2)?, self(first + 3)?])
    }
}

/// A policy's tries.
pub struct PolicyTries<'a, M>(pub &'a M, pub &'a Root);

impl<M: Maps> Tries for PolicyTries<'_, M> {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u32> {
        word(self.0, self.1, index)
    }

    #[inline(always)]
    fn node(&self, to: u32) -> Option<[u32; NODE_WORDS]> {
        // With the flag: without it, there would be a copy of the cell to compare.
        const INLINE: u32 = NODE | INLINE_WORDS as u32;
        let (Self(maps, root), first) = (self, to & VALUE);
        if to >= INLINE {
            hint::cold_path();
            let element = cell(&root.layout.blocks) + (to - INLINE) / BLOCK_WORDS as u32;
            return Some(node(maps.block(element)?, first as usize & (BLOCK_WORDS - NODE_WORDS)));
        }
        Some(node(&root.words, bounded::<{ INLINE_WORDS - NODE_WORDS }>(first as usize)))
    }
}

/// The node that begins at a word. One bound is checked for all of its words.
#[inline(always)]
pub fn node<const WORDS: usize>(words: &[u32; WORDS], first: usize) -> [u32; NODE_WORDS] {
    let words = &words[first..first + NODE_WORDS];
    [words[0], words[1], words[2], words[3]]
}

/// Words of an array from one on, so many that are a power of two and do not straddle it.
#[inline(always)]
pub fn part<const WORDS: usize, const PART: usize>(words: &[u32; WORDS], first: usize) -> &[u32; PART] {
    let first = first & (WORDS - PART);
    words[first..first + PART].try_into().expect("so many")
}

/// A word of a policy's class tables and trie blocks.
// Which branches are marked cold was tried: each mark moves code, and the verifier goes through it in another order, at up to thrice the cost.
#[inline(always)]
pub fn word(maps: &impl Maps, root: &Root, index: u32) -> Option<u32> {
    const INLINE: u32 = INLINE_WORDS as u32;
    if index >= INLINE {
        hint::cold_path();
        let element = cell(&root.layout.blocks) + (index - INLINE) / BLOCK_WORDS as u32;
        return Some(cell(&maps.block(element)?[index as usize % BLOCK_WORDS]));
    }
    // The compiler knows the bound from the comparison, the verifier may not: it compared another register.
    Some(cell(&root.words[bounded::<{ INLINE_WORDS - 1 }>(index as usize)]))
}

/// Reads a cell that user space may be storing to.
#[inline(always)]
pub fn cell<T: Pod>(cell: &T) -> T {
    // What several fields are is read field by field.
    const { assert!(size_of::<T>() <= 8 && align_of::<T>() == size_of::<T>()) };
    // SAFETY: a reference is valid for reads and aligned; volatile, so that the cell is read once.
    unsafe { core::ptr::read_volatile(cell) }
}
