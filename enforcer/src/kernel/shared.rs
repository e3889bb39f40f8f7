//! Maps that outlive policies: what is remembered of packets goes on when another set of tables judges them.

use std::{fs, path::Path};

use aya::maps::{MapInfo, MapType};
use enforcer_ebpf::abi::{ADMISSIONS, ClientKey, Flow, FlowKey, FragmentHead, FragmentKey, LongKey, Words6, dns};

use super::snoop;

/// Heads of fragmented packets remembered.
const FRAGMENTS: u32 = 16_384;
/// Connections from outside remembered.
const REPLIES: u32 = 65_536;

/// A map as the programs want it.
pub(super) struct Shape {
    pub name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    pub elements: u32,
}

/// All of them. Those for snooping take next to no memory unless they are asked for.
pub(super) fn shapes(snoops: bool) -> [Shape; 8] {
    let lru = |name, key, value, elements| Shape { name, kind: MapType::LruHash, key, value, elements };
    let (queries, askers, answers) =
        if snoops { (snoop::QUERIES, snoop::ASKERS, snoop::ANSWERS) } else { (1, 1, 1 << 12) };
    [
        lru("FRAGMENTS", size_of::<FragmentKey>(), size_of::<FragmentHead>(), FRAGMENTS),
        lru("REPLIES", size_of::<FlowKey>(), size_of::<Flow>(), REPLIES),
        lru("QUERIES", size_of::<dns::QueryKey>(), 8, queries),
        lru("ASKERS", size_of::<Words6>(), 8, askers),
        Shape { name: "ANSWERS", kind: MapType::RingBuf, key: 0, value: 0, elements: answers },
        Shape { name: "ADMITTED", kind: MapType::Hash, key: size_of::<ClientKey>(), value: 8, elements: ADMISSIONS },
        Shape {
            name: "ADMITTED_NETS",
            kind: MapType::LpmTrie,
            key: 4 + size_of::<LongKey>(),
            value: 8,
            elements: ADMISSIONS,
        },
        Shape { name: "OUTCOMES", kind: MapType::PerCpuArray, key: 4, value: 8, elements: dns::outcome::COUNT },
    ]
}

/// Removes pins of maps that are not as they are wanted, so that new ones take their place; which these are.
pub(super) fn fit(folder: &Path, shapes: &[Shape]) -> Vec<&'static str> {
    let fits = |shape: &Shape| {
        let Ok(info) = MapInfo::from_pin(folder.join(shape.name)) else { return true };
        info.map_type().is_ok_and(|kind| kind == shape.kind)
            && info.key_size() as usize == shape.key
            && info.value_size() as usize == shape.value
            && info.max_entries() == shape.elements
    };
    let others = shapes.iter().filter(|shape| !fits(shape)).map(|shape| shape.name);
    others.filter(|name| fs::remove_file(folder.join(name)).is_ok()).collect()
}
