//! From addresses and ports to classes: array loads, not searches.

use crate::{
    abi::{
        Block, Layout, LongKey, OverflowKey, PORT_CELLS, PolicyId, Root, SKIP_WORDS, Words6,
        cell::{BLOCK, HOSTS, LONG, SKIP, VALUE},
    },
    hosts::{self, Found},
    maps::{self, Maps},
};

/// Leaf of an IPv4 stride trie: 16 bits, then 8, then 8.
#[inline(always)]
pub fn walk4<'a>(root: u32, address: u32, block: impl Fn(u32) -> Option<&'a Block>) -> Option<u32> {
    let mut cell = root;
    if cell & BLOCK != 0 {
        cell = maps::cell(&block(cell & VALUE)?[(address >> 8) as usize & 0xff]);
        if cell & BLOCK != 0 {
            cell = maps::cell(&block(cell & VALUE)?[address as usize & 0xff]);
        }
    }
    Some(cell & VALUE)
}

/// Leaf of an IPv6 stride trie: 16 bits, then six strides of 8; skip nodes take several at once.
#[inline(always)]
pub fn walk6<'a>(root: u32, address: &Words6, block: impl Fn(u32) -> Option<&'a Block>) -> Option<u32> {
    let mut cell = root;
    // Bits 16 to 63, the next byte on top.
    let mut rest = u64::from(address[0]) << 48 | u64::from(address[1]) << 16;
    for _ in 0..6 {
        if cell & BLOCK != 0 {
            cell = maps::cell(&block(cell & VALUE)?[(rest >> 56) as usize]);
            rest <<= 8;
        } else if cell & SKIP != 0 {
            let node = cell & VALUE;
            let words = block(node >> 5)?;
            let base = (node as usize & 31) * SKIP_WORDS;
            let bytes = maps::cell(&words[base & 0xff]);
            let high = maps::cell(&words[(base + 1) & 0xff]);
            let low = maps::cell(&words[(base + 2) & 0xff]);
            let bits = (bytes * 8) & 63;
            let wanted = u64::from(high) << 32 | u64::from(low);
            if (rest ^ wanted) >> ((64 - bits) & 63) != 0 {
                cell = maps::cell(&words[(base + 4) & 0xff]);
                break;
            }
            cell = maps::cell(&words[(base + 3) & 0xff]);
            rest <<= bits;
        } else {
            break;
        }
    }
    Some(cell & VALUE)
}

/// A destination's class: hosts first, then prefixes longer than /64, then the trie.
#[inline(always)]
pub fn destination(maps: &impl Maps, policy: PolicyId, root: &Root, address: &Words6, v6: bool) -> Option<u32> {
    if v6 {
        let cell = maps::cell(&root.dst6[(address[0] >> 16) as usize]);
        if cell & (HOSTS | LONG) != 0 {
            if cell & HOSTS != 0
                && let Some(class) = host6(maps, policy, &root.layout, address)
            {
                return Some(class);
            }
            if cell & LONG != 0
                && let Some(class) = maps.long6(&long_key(policy as u32, address))
            {
                return Some(class);
            }
        }
        walk6(cell, address, |index| maps.block(index))
    } else {
        let address = address[3];
        let cell = maps::cell(&root.dst4[(address >> 16) as usize]);
        if cell & HOSTS != 0
            && let Some(class) = host4(maps, policy, &root.layout, address)
        {
            return Some(class);
        }
        walk4(cell, address, |index| maps.block(index))
    }
}

/// A source's class. Sources have no host table: the few that are longer than /64 are in the LPM map.
#[inline(always)]
pub fn source(maps: &impl Maps, policy: PolicyId, root: &Root, address: &Words6, v6: bool) -> Option<u32> {
    if v6 {
        let cell = maps::cell(&root.src6[(address[0] >> 16) as usize]);
        if cell & LONG != 0
            && let Some(class) = maps.long6(&long_key(policy as u32 + SOURCE_SPACE, address))
        {
            return Some(class);
        }
        walk6(cell, address, |index| maps.block(index))
    } else {
        walk4(maps::cell(&root.src4[(address[3] >> 16) as usize]), address[3], |index| maps.block(index))
    }
}

/// A port's class.
#[inline(always)]
#[must_use]
pub fn port(root: &Root, slot: u32, selector: u16) -> u32 {
    u32::from(root.ports[(slot << 16 | u32::from(selector)) as usize & (PORT_CELLS - 1)])
}

#[inline(always)]
fn host4(maps: &impl Maps, policy: PolicyId, layout: &Layout, address: u32) -> Option<u32> {
    let (bucket, start) = hosts::slot4(address, layout.seed, layout.hosts4_mask);
    let bucket = layout.hosts4 + bucket;
    match hosts::find(maps.hosts4(bucket)?, address, start, |_| true) {
        Found::Hit(cell, value) => {
            let epoch = epoch(maps)?;
            if hosts::epoch_of(value) != epoch {
                maps.touch4(bucket, cell, epoch);
            }
            Some(hosts::class_of(value))
        }
        Found::Miss => None,
        Found::Full => maps.overflow(&OverflowKey { space: policy as u32, address: [0, 0, 0, address] }),
    }
}

#[inline(always)]
fn host6(maps: &impl Maps, policy: PolicyId, layout: &Layout, address: &Words6) -> Option<u32> {
    let (tag, hash) = hosts::fingerprint6(address, layout.seed);
    let (bucket, start) = hosts::slot(hash, layout.hosts6_mask);
    let bucket = layout.hosts6 + bucket;
    let same = |cell| maps.key6(bucket, cell).is_some_and(|key| key == *address);
    match hosts::find(maps.hosts6(bucket)?, tag, start, same) {
        Found::Hit(cell, value) => {
            let epoch = epoch(maps)?;
            if hosts::epoch_of(value) != epoch {
                maps.touch6(bucket, cell, epoch);
            }
            Some(hosts::class_of(value))
        }
        Found::Miss => None,
        Found::Full => maps.overflow(&OverflowKey { space: policy as u32 + 4, address: *address }),
    }
}

#[inline(always)]
fn epoch(maps: &impl Maps) -> Option<u16> {
    Some(maps::cell(&maps.net()?.epoch) as u16)
}

/// Added to a policy's number in keys of long source prefixes.
pub const SOURCE_SPACE: u32 = 4;

/// The key that finds an address among the long prefixes of a space: a policy's destinations, or its sources ([`SOURCE_SPACE`]).
#[inline(always)]
#[must_use]
pub fn long_key(space: u32, address: &Words6) -> LongKey {
    LongKey { space: space.to_be_bytes(), address: bytemuck::cast(address.map(u32::to_be)) }
}
