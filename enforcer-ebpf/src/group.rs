//! Groups: the IPv4 hosts that a policy lists below one root cell, in lines of 64 bytes.
//!
//! The root cell knows the upper half of an address, so that four bytes are enough for a host: the lower half and its class. That is half of what a cell of
//! [`crate::hosts`] takes, and a million of them stay in the cache. They come and go with the policy, never one by one, so that nothing
//! else is needed: what a host is to be stamped or to drain for is only known of names' addresses.
//!
//! A group has one line, two, four, ... A host has a line and a first cell in it, both given by the lower half of its address, and lies there or behind it,
//! wrapping round. The first cell of each line, the header, is not among those: it is what the root cell would be without the group, for addresses that are none of its
//! hosts. User space gives a group so many lines that none is overfull.

use crate::abi::cell::{TRIE, VALUE};

/// Cells of a line; with 4 bytes each, it is a cache line.
pub const LINE_CELLS: usize = 16;
/// Four-byte cells, the first of which is the header. Zero is an empty cell.
pub type Line = [u32; LINE_CELLS];

/// Most lines of a group, as a power of two: eight addresses have one there.
pub const MOST_LINES: u32 = 13;
/// Bits of a root cell's value that say, as a power of two, how many lines there are; the first one's number is above them.
const LINES_BITS: u32 = 4;

/// Marks a host's cell.
const HOST: u32 = 1 << 31;
/// Marks a header, which is never empty so that no probe ends there.
const HEADER: u32 = 1 << 30;

/// The value of a group's root cell: its first line, and as a power of two how many there are.
#[must_use]
pub const fn value(first_line: u32, lines: u32) -> u32 {
    first_line << LINES_BITS | lines
}

/// The first line of a root cell's value.
#[inline(always)]
#[must_use]
pub const fn first_line(cell: u32) -> u32 {
    (cell & VALUE) >> LINES_BITS
}

/// What a root cell's value says of its lines: how many, or that they are a span's.
#[inline(always)]
#[must_use]
pub const fn lines(cell: u32) -> u32 {
    cell & ((1 << LINES_BITS) - 1)
}

/// Where a host lies in the group of a root cell: line and first cell. The seed is random per load, so that nobody can choose hosts that meet.
#[inline(always)]
#[must_use]
pub const fn place(cell: u32, address: u32, seed: u32) -> (u32, usize) {
    // One to one, so that the largest group has room for any hosts. The numbers are of many that were tried: under these, no runs or strides meet more than any hosts do.
    let mut spread = ((address ^ seed) & 0xffff).wrapping_mul(0xb207) & 0xffff;
    spread = (spread ^ spread >> 11).wrapping_mul(0xb003) & 0xffff;
    let at = spread << 4 >> (16 - lines(cell));
    (first_line(cell) + (at >> 4), at as usize % LINE_CELLS)
}

/// A host's cell; its class has 15 bits.
#[must_use]
pub const fn host(address: u32, class: u32) -> u32 {
    HOST | class << 16 | address & 0xffff
}

/// The header of a group's lines; a root cell's flags are no part of it.
#[must_use]
pub const fn header(cell: u32) -> u32 {
    HEADER | cell & TRIE
}

/// Looks for an address from its first cell on: the cell of a trie that says what it is, a leaf if it is one of the hosts.
#[inline(always)]
#[must_use]
pub fn find(line: &Line, address: u32, start: usize) -> u32 {
    let wanted = host(address, 0);
    for step in 0..LINE_CELLS {
        let cell = line[(start + step) % LINE_CELLS];
        if cell & host(0xffff, 0) == wanted {
            return cell >> 16 & 0x7fff;
        }
        if cell == 0 {
            break;
        }
    }
    line[0] & TRIE
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::HashSet;

    use super::*;
    use crate::abi::cell::{BLOCK, NODE};

    #[test]
    fn addresses_are_spread_evenly_one_to_one() {
        let places: HashSet<_> = (0..=0xffff).map(|address| place(value(5, 12), address, 7)).collect();
        assert_eq!(places.len(), 1 << 16);
        assert!(places.iter().all(|&(line, cell)| (5..5 + 4096).contains(&line) && cell < LINE_CELLS));
        let mut lines = [0; 1 << MOST_LINES];
        (0..=0xffff).for_each(|address| lines[place(value(0, MOST_LINES), address, 7).0 as usize] += 1);
        assert!(lines.iter().all(|&hosts| hosts == 8));
    }

    #[test]
    fn addresses_in_a_row_meet_no_more_than_any_others() {
        for stride in [1, 2, 3, 4, 8, 16, 64, 128, 255, 256, 257] {
            let overfull = |seed: &u32| {
                let mut lines = [0; 32];
                (0..256).for_each(|number| lines[place(value(0, 5), number * stride, *seed).0 as usize] += 1);
                lines.iter().any(|&hosts| hosts >= LINE_CELLS)
            };
            let overfull = (0..200_u32).map(|number| number.wrapping_mul(0x9E37_79B1)).filter(overfull).count();
            // By chance it is 43.
            assert!(overfull < 60, "stride {stride}: {overfull} of 200");
        }
    }

    #[test]
    fn a_header_keeps_what_a_root_cell_leads_to() {
        for cell in [0, 7, VALUE, BLOCK | 3, NODE | 9, BLOCK | VALUE] {
            let mut line = [0; LINE_CELLS];
            line[0] = header(cell);
            for address in 0..64 {
                assert_eq!(find(&line, address, address as usize % LINE_CELLS), cell);
            }
        }
    }
}
