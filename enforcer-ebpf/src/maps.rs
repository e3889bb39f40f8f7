//! The data plane's memory, as its pure code sees it.

use crate::abi::{
    Block, Bucket, FlowKey, FragmentHead, FragmentKey, LongKey, Net, OverflowKey, PolicyId, Root, Words6,
};

/// Tables that user space writes and state that packets leave behind. `None` from a table that must have the cell is a defect and ends in
/// [`crate::abi::pseudo::FAULT`].
pub trait Maps {
    /// A policy's roots.
    fn root(&self, policy: PolicyId) -> Option<&Root>;
    /// A block of the policies' tries and class tables.
    fn block(&self, index: u32) -> Option<&Block>;
    /// What is known of interfaces and addresses.
    fn net(&self) -> Option<&Net>;
    /// A block of the network tries.
    fn net_block(&self, index: u32) -> Option<&Block>;
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
    /// Class of the longest prefix of /65 to /127.
    fn long6(&self, key: &LongKey) -> Option<u32>;
    /// Stamps a host cell: two bytes, never the whole cell, which user space may just be deleting.
    fn touch4(&self, bucket: u32, cell: usize, epoch: u16);
    /// The same for IPv6.
    fn touch6(&self, bucket: u32, cell: usize, epoch: u16);
    /// The allowed head of a fragmented packet.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentHead>;
    /// Remembers an allowed head.
    fn remember_fragment(&self, key: &FragmentKey, head: &FragmentHead);
    /// Whether a connection from outside is known.
    fn reply(&self, key: &FlowKey) -> bool;
}

/// A word of the class tables.
#[inline(always)]
pub fn word(maps: &impl Maps, index: u32) -> Option<u32> {
    Some(cell(&maps.block(index >> 8)?[index as usize & 0xff]))
}

/// Reads a cell that user space may be storing to.
#[inline(always)]
pub fn cell(cell: &u32) -> u32 {
    // SAFETY: a reference is valid for reads and aligned; volatile, so that the cell is read once.
    unsafe { core::ptr::read_volatile(cell) }
}
