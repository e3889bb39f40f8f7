//! The bucketed host tables: one cache line per address asked.
//!
//! A bucket has eight cells. An address has a first cell in its bucket, given by its hash, and lies there or behind it, wrapping round. A probe ends
//! at the address or at an empty cell, so that in a table filled as user space fills it (four hosts a bucket and fewer)
//! most probes read one cell. What a full bucket could not take is in a kernel hash.

use crate::abi::{BUCKET_CELLS, Bucket, DRAINING, STANDS, TOMBSTONE, Words6};

/// Odd 64-bit multiplier (2^64 / golden ratio); with the seed mixed in, an attacker cannot aim at a bucket.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Where an IPv4 address lies: bucket (less than or equal to `mask`) and first cell.
#[inline(always)]
#[must_use]
pub fn slot4(address: u32, seed: u32, mask: u32) -> (u32, usize) {
    let hash = u64::from(address).wrapping_mul(MULTIPLIER ^ u64::from(seed) << 1);
    // Once is not enough: under one seed in twenty, addresses in a row would meet in few buckets.
    slot((hash ^ hash >> 32).wrapping_mul(MULTIPLIER), mask)
}

/// An IPv6 address's fingerprint and hash; [`slot`] turns the hash into a place. The fingerprint is never that of an empty cell or a tombstone.
#[inline(always)]
#[must_use]
pub fn fingerprint6(address: &Words6, seed: u32) -> (u32, u64) {
    let high = u64::from(address[0]) << 32 | u64::from(address[1]);
    let low = u64::from(address[2]) << 32 | u64::from(address[3]);
    let key = MULTIPLIER ^ u64::from(seed) << 1;
    let mut hash = high.wrapping_mul(key);
    hash = (hash ^ hash >> 32 ^ low).wrapping_mul(key);
    hash = (hash ^ hash >> 29).wrapping_mul(key);
    let tag = (hash ^ hash >> 32) as u32;
    (if tag == 0 || tag == TOMBSTONE { 1 } else { tag }, hash)
}

/// Bucket and first cell of a hash.
#[inline(always)]
#[must_use]
pub fn slot(hash: u64, mask: u32) -> (u32, usize) {
    ((hash >> 32) as u32 & mask, (hash >> 29 & 7) as usize)
}

/// What a bucket knows of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is in this cell, which reads so.
    Hit(usize, u64),
    /// It is not in the table.
    Miss,
    /// It is not in this bucket, but may be in the overflow.
    Full,
}

/// Looks for a tag in a bucket from its first cell on; `same` says whether a cell with that tag is the address meant.
#[inline(always)]
pub fn find(bucket: &Bucket, tag: u32, start: usize, same: impl Fn(usize) -> bool) -> Found {
    for step in 0..BUCKET_CELLS {
        let index = (start + step) & (BUCKET_CELLS - 1);
        // SAFETY: a reference is valid for reads; volatile, because user space stores to mapped cells while programs run.
        let cell = unsafe { core::ptr::read_volatile(&raw const bucket.0[index]) };
        let found = cell as u32;
        if found == tag && same(index) {
            return Found::Hit(index, cell);
        }
        if found == 0 {
            return Found::Miss;
        }
    }
    Found::Full
}

/// Class in a host cell.
#[inline(always)]
#[must_use]
pub fn class_of(cell: u64) -> u32 {
    (cell >> 32) as u32 & 0x7fff
}

/// Whether a host cell speaks of a packet to its address: while it is draining, of those alone whose connection stands ([`STANDS`]).
#[inline(always)]
#[must_use]
pub fn speaks(cell: u64, port: u32) -> bool {
    (cell >> 32) as u32 & u32::from(DRAINING) == 0 || port & STANDS != 0
}

/// Epoch in a host cell.
#[inline(always)]
#[must_use]
pub fn epoch_of(cell: u64) -> u16 {
    (cell >> 48) as u16
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;

    use super::slot4;

    #[test]
    fn addresses_in_a_row_meet_no_more_than_any_others_under_any_seed() {
        const HOSTS: u32 = 60_000;
        const BUCKETS: u32 = 1 << 14;
        for seed in (0..100_u32).map(|number| number.wrapping_mul(0x9E37_79B1)) {
            for stride in [1, 7, 256, 1024] {
                let mut filled = vec![0_u32; BUCKETS as usize];
                for number in 0..HOSTS {
                    filled[slot4(0x1100_0000 + number * stride, seed, BUCKETS - 1).0 as usize] += 1;
                }
                let overflow: u32 = filled.iter().map(|hosts| hosts.saturating_sub(8)).sum();
                // By chance it is 320.
                assert!(overflow < 600, "seed {seed:#x}, stride {stride}: {overflow}");
            }
        }
    }
}
