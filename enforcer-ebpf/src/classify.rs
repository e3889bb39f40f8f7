//! From addresses and ports to classes: array loads, not searches.

use crate::{
    abi::{
        ADMITTED, BLOCK_WORDS, Block, Layout, LongKey, OverflowKey, PORT_CELLS, PolicyId, ROW_UNIT, Root, STANDS,
        Verdict, Words6,
        cell::{BLOCK, HOSTS, LINES, LONG, NODE, TRIE, VALUE},
    },
    bounded::bounded,
    group::{self, LINE_CELLS},
    hosts::{self, Found},
    maps::{self, Maps, PolicyTries, Tries},
    span,
};

/// Leaf of an IPv4 stride trie: 16 bits, then 8, then 8; or the single prefix below the first 16. The root cell comes without flags of its own ([`TRIE`]).
#[inline(always)]
pub fn walk4(root: u32, address: u32, tries: &impl Tries) -> Option<u32> {
    let mut cell = root;
    if cell >= BLOCK {
        cell = tries.word((cell & VALUE) << 8 | address >> 8 & 0xff)?;
        if cell >= BLOCK {
            cell = tries.word((cell & VALUE) << 8 | address & 0xff)?;
        }
    } else if cell >= NODE {
        let [wanted, mask, hit, miss] = tries.node(cell)?;
        cell = if (address ^ wanted) & mask == 0 { hit } else { miss };
    }
    Some(cell)
}

/// Leaf of an IPv6 stride trie: 16 bits, then six strides of 8; nodes take several at once. The root cell as for [`walk4`].
#[inline(always)]
pub fn walk6(root: u32, address: &Words6, tries: &impl Tries) -> Option<u32> {
    let mut cell = root;
    // Bits 16 to 63, the next byte on top.
    let mut rest = u64::from(address[0]) << 48 | u64::from(address[1]) << 16;
    for _ in 0..6 {
        if cell >= BLOCK {
            cell = tries.word((cell & VALUE) << 8 | (rest >> 56) as u32)?;
            rest <<= 8;
        } else if cell >= NODE {
            let [high, low, hit, miss] = tries.node(cell)?;
            let bits = low & 63;
            let wanted = u64::from(high) << 32 | u64::from(low);
            if (rest ^ wanted) >> ((64 - bits) & 63) != 0 {
                cell = miss;
                break;
            }
            cell = hit;
            rest <<= bits;
        } else {
            break;
        }
    }
    Some(cell)
}

/// Beside a destination's class: its host's cell is to be stamped.
const STAMP: u32 = 1 << 31;

/// What a policy says of an IPv4 packet: destination, source and port classes, then two class tables.
// Here and below, no `Option` outlives the branch that makes it: of a `None`, the compiler copies the unset value, which the verifier refuses.
#[inline(always)]
pub fn judge4(maps: &impl Maps, policy: PolicyId, source: u32, destination: u32, port: u32) -> Option<Verdict> {
    let root = maps.root(policy);
    let tries = &PolicyTries(maps, root);
    let mut cell = maps::cell(&root.dst4[bounded::<0xffff>((destination >> 16) as usize)]);
    let class = 'class: {
        // One question for what most have none of.
        if cell & (HOSTS | LINES) != 0 {
            if cell & HOSTS != 0
                && let Some(found) = host4(maps, policy, &root.layout, destination, port)
            {
                break 'class found;
            }
            cell = below4(&root.layout, cell, destination, |element| maps.block(element))?;
        }
        walk4(cell, destination, tries)?
    };
    let row = (class & !STAMP) * ROW_UNIT;
    let mut table = maps::word(maps, root, row)?;
    if maps::cell(&root.layout.source_classes) > 1 {
        let leaf = walk4(maps::cell(&root.src4[bounded::<0xffff>((source >> 16) as usize)]), source, tries)?;
        table = table_of(maps, root, table, leaf, port)?;
    }
    let verdict = conclude(maps, root, row, table, port)?;
    if class & STAMP != 0 && verdict.action().passes() {
        let place = maps.noted();
        maps.touch4(place >> 3, place as usize & 7, maps.epoch());
    }
    Some(verdict)
}

/// What a policy says of an IPv6 packet. Destinations are looked for among hosts, then prefixes beyond /64, then in the trie; sources have no host
/// table: the few that are longer than /64 are in the LPM map, too.
#[inline(always)]
pub fn judge6(maps: &impl Maps, policy: PolicyId, source: &Words6, destination: &Words6, port: u32) -> Option<Verdict> {
    let root = maps.root(policy);
    let tries = &PolicyTries(maps, root);
    let cell = maps::cell(&root.dst6[bounded::<0xffff>((destination[0] >> 16) as usize)]);
    let class = 'class: {
        if cell & HOSTS != 0
            && let Some(found) = host6(maps, policy, &root.layout, destination, port)
        {
            break 'class found;
        }
        if cell & LONG != 0
            && let Some(class) = maps.long6(policy as u32, destination)
        {
            break 'class class;
        }
        walk6(cell & TRIE, destination, tries)?
    };
    let row = (class & !STAMP) * ROW_UNIT;
    let mut table = maps::word(maps, root, row)?;
    if maps::cell(&root.layout.source_classes) > 1 {
        let cell = maps::cell(&root.src6[bounded::<0xffff>((source[0] >> 16) as usize)]);
        let leaf = 'leaf: {
            if cell & LONG != 0
                && let Some(leaf) = maps.long6(policy as u32 + SOURCE_SPACE, source)
            {
                break 'leaf leaf;
            }
            walk6(cell & TRIE, source, tries)?
        };
        table = table_of(maps, root, table, leaf, port)?;
    }
    let verdict = conclude(maps, root, row, table, port)?;
    if class & STAMP != 0 && verdict.action().passes() {
        let place = maps.noted();
        maps.touch6(place >> 3, place as usize & 7, maps.epoch());
    }
    Some(verdict)
}

/// The table for packets of a source's class, from the word in the row that stands for it where there are several.
#[inline(always)]
fn table_of(maps: &impl Maps, root: &Root, tables: u32, leaf: u32, port: u32) -> Option<u32> {
    let mut part = maps::cell(&root.layout.moment) + leaf;
    let admitted = maps::cell(&root.layout.admitted);
    if admitted != 0 && (port & ADMITTED != 0 || maps.admitted()) {
        part += admitted;
    }
    maps::word(maps, root, tables + part)
}

/// The verdict where a row's table has it for the port.
#[inline(always)]
fn conclude(maps: &impl Maps, root: &Root, row: u32, table: u32, port: u32) -> Option<Verdict> {
    // By the plain mask, the compiler drops what else is beside the index; the other one is the verifier's.
    let port_class = u32::from(root.ports[bounded::<{ PORT_CELLS - 1 }>(port as usize & (PORT_CELLS - 1))]);
    Some(match maps::word(maps, root, table + port_class)? {
        0 => root.layout.default,
        clause => Verdict(maps::word(maps, root, row + clause)?),
    })
}

/// The cell to begin with at an IPv4 destination below a root cell that may be a group's or a span's, and has no flags of roots any more; `block` gives elements of `BLOCKS`.
#[inline(always)]
pub fn below4<'a>(
    layout: &Layout,
    cell: u32,
    address: u32,
    block: impl FnOnce(u32) -> Option<&'a Block>,
) -> Option<u32> {
    const PER_BLOCK: u32 = (BLOCK_WORDS / LINE_CELLS) as u32;
    if cell & LINES == 0 {
        return Some(cell & TRIE);
    }
    let is_span = group::lines(cell) == span::MARK;
    let (line, start) =
        if is_span { (group::first_line(cell), 0) } else { group::place(cell, address, maps::cell(&layout.seed)) };
    let block = block(maps::cell(&layout.lines) + line / PER_BLOCK)?;
    let line = maps::part(block, (line % PER_BLOCK) as usize * LINE_CELLS);
    Some(if is_span { span::find(line, address) } else { group::find(line, address, start) })
}

#[inline(always)]
fn host4(maps: &impl Maps, policy: PolicyId, layout: &Layout, address: u32, port: u32) -> Option<u32> {
    let (bucket, start) = hosts::slot4(address, layout.seed, layout.hosts4_mask);
    let bucket = layout.hosts4 + bucket;
    match hosts::find(maps.hosts4(bucket)?, address, start, |_| true) {
        Found::Hit(cell, value) => hit(maps, bucket << 3 | cell as u32, value, port),
        Found::Miss => None,
        Found::Full => {
            let class = maps.overflow(&OverflowKey { space: policy as u32, address: [0, 0, 0, address] })?;
            overflowed(class, port)
        }
    }
}

#[inline(always)]
fn host6(maps: &impl Maps, policy: PolicyId, layout: &Layout, address: &Words6, port: u32) -> Option<u32> {
    let (tag, hash) = hosts::fingerprint6(address, layout.seed);
    let (bucket, start) = hosts::slot(hash, layout.hosts6_mask);
    let bucket = layout.hosts6 + bucket;
    let same = |cell| maps.key6(bucket, cell).is_some_and(|key| key == *address);
    match hosts::find(maps.hosts6(bucket)?, tag, start, same) {
        Found::Hit(cell, value) => hit(maps, bucket << 3 | cell as u32, value, port),
        Found::Miss => None,
        Found::Full => overflowed(maps.overflow(&OverflowKey { space: policy as u32 + 4, address: *address })?, port),
    }
}

/// A host's class, if its cell speaks of the packet. Only packets of connections that stand are proof that one is alive.
#[inline(always)]
fn hit(maps: &impl Maps, place: u32, value: u64, port: u32) -> Option<u32> {
    if !hosts::speaks(value, port) {
        return None;
    }
    let class = hosts::class_of(value);
    if port & STANDS == 0 || hosts::epoch_of(value) == maps.epoch() {
        return Some(class);
    }
    // Rare; and what is kept in registers until the verdict is one bit.
    maps.note(place);
    Some(class | STAMP)
}

/// A host's class from the overflow, where it has the bits of a cell's upper half and is never stamped.
#[inline(always)]
fn overflowed(class: u32, port: u32) -> Option<u32> {
    let value = u64::from(class) << 32;
    hosts::speaks(value, port).then_some(hosts::class_of(value))
}

/// Added to a policy's number in keys of long source prefixes.
pub const SOURCE_SPACE: u32 = 4;

/// The key that finds an address among the long prefixes of a space: a policy's destinations, or its sources ([`SOURCE_SPACE`]).
#[inline(always)]
#[must_use]
pub fn long_key(space: u32, address: &Words6) -> LongKey {
    LongKey { space: space.to_be_bytes(), address: bytemuck::cast(address.map(u32::to_be)) }
}
