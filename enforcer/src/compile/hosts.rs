//! Host tables: buckets as `enforcer_ebpf::hosts` probes them.

use enforcer_ebpf::{
    abi::{BUCKET_CELLS, Bucket, Keys6, TOMBSTONE, Words6, host_cell},
    hosts,
};

/// Mean hosts in a bucket of eight: more would fill too many buckets, fewer waste cache. At two, one host in 4,000 overflows and a hit
/// reads 1.1 cells.
const MEAN: usize = 2;

/// Buckets, a power of two, for so many hosts, or so many that come later; none for none. Where there are many of the one, the few of the other find
/// room among them.
fn buckets(hosts: usize, later: usize) -> usize {
    let most = hosts.max(later);
    if most == 0 { 0 } else { most.div_ceil(MEAN).next_power_of_two() }
}

/// A table with room for hosts that come later.
pub fn empty(later: usize) -> Vec<Bucket> {
    vec![Bucket([0; BUCKET_CELLS]); buckets(0, later)]
}

/// An IPv6 table, its keys, and what overflowed.
pub fn build6(hosts: &[(Words6, u16)], later: usize, seed: u32) -> (Vec<Bucket>, Vec<Keys6>, Vec<(Words6, u16)>) {
    let mut table = vec![Bucket([0; BUCKET_CELLS]); buckets(hosts.len(), later)];
    let mut keys = vec![[[0; 4]; BUCKET_CELLS]; table.len()];
    let mask = (table.len() as u32).wrapping_sub(1);
    let mut overflow = Vec::new();
    for &(address, class) in hosts {
        let (tag, hash) = hosts::fingerprint6(&address, seed);
        let (bucket, start) = hosts::slot(hash, mask);
        match put(&mut table[bucket as usize], start, host_cell(tag, class, 0)) {
            Some(cell) => keys[bucket as usize][cell] = address,
            None => overflow.push((address, class)),
        }
    }
    (table, keys, overflow)
}

/// The first cell from `start` on that no host has.
pub fn free(bucket: &Bucket, start: usize) -> Option<usize> {
    let nobody = |cell: &usize| matches!(bucket.0[*cell] as u32, 0 | TOMBSTONE);
    (0..BUCKET_CELLS).map(|step| (start + step) % BUCKET_CELLS).find(nobody)
}

/// Cells with the values that take a host out. A probe goes on behind what is left of it; where none would find anything, the cells are empty again, so
/// that probes stay short while hosts come and go.
pub fn emptied(bucket: &Bucket, cell: usize) -> Vec<(usize, u64)> {
    let tag = |cell: usize| bucket.0[cell % BUCKET_CELLS] as u32;
    if tag(cell + 1) != 0 {
        return vec![(cell, host_cell(TOMBSTONE, 0, 0))];
    }
    let before = (1..BUCKET_CELLS).map(|step| (cell + BUCKET_CELLS - step) % BUCKET_CELLS);
    let tombstones = before.take_while(|&cell| tag(cell) == TOMBSTONE);
    std::iter::once(cell).chain(tombstones).map(|cell| (cell, 0)).collect()
}

/// Stores into the first empty cell from `start` on.
fn put(bucket: &mut Bucket, start: usize, value: u64) -> Option<usize> {
    let cell = (0..BUCKET_CELLS).map(|step| (start + step) % BUCKET_CELLS).find(|&cell| bucket.0[cell] == 0)?;
    bucket.0[cell] = value;
    Some(cell)
}

#[cfg(test)]
mod tests {
    use enforcer_ebpf::hosts::{Found, class_of, find};
    use proptest::prelude::*;

    use super::*;

    fn lookup(tables: &(Vec<Bucket>, Vec<Keys6>, Vec<(Words6, u16)>), address: &Words6, seed: u32) -> Option<u16> {
        let (table, keys, overflow) = tables;
        let (tag, hash) = hosts::fingerprint6(address, seed);
        let (bucket, start) = hosts::slot(hash, (table.len() as u32).wrapping_sub(1));
        let bucket = bucket as usize;
        match find(table.get(bucket)?, tag, start, |cell| keys[bucket][cell] == *address) {
            Found::Hit(_, cell) => Some(class_of(cell) as u16),
            Found::Miss => None,
            Found::Full => overflow.iter().find(|(host, _)| host == address).map(|&(_, class)| class),
        }
    }

    proptest! {
        #[test]
        fn every_host_is_found_and_no_other(
            hosts in prop::collection::hash_map(any::<Words6>(), 0..1_u16 << 15, 0..400),
            others in prop::collection::vec(any::<Words6>(), 20), seed in any::<u32>(),
        ) {
            let list: Vec<_> = hosts.iter().map(|(&address, &class)| (address, class)).collect();
            let tables = build6(&list, 0, seed);
            for address in hosts.keys().chain(&others) {
                prop_assert_eq!(lookup(&tables, address, seed), hosts.get(address).copied());
            }
        }

        #[test]
        fn ipv4_addresses_that_come_are_found_and_no_others(
            hosts in prop::collection::hash_map(1..u32::MAX, 0..1_u16 << 15, 0..400), others in prop::collection::vec(1..u32::MAX, 20),
            seed in any::<u32>(),
        ) {
            let mut table = empty(400);
            let place = |address| hosts::slot4(address, seed, table.len() as u32 - 1);
            let places: Vec<_> = hosts.keys().copied().chain(others).map(|address| (address, place(address))).collect();
            let mut full = Vec::new();
            for (address, (bucket, start)) in &places[..hosts.len()] {
                let bucket = &mut table[*bucket as usize];
                match free(bucket, *start) {
                    Some(cell) => bucket.0[cell] = host_cell(*address, hosts[address], 0),
                    None => full.push(*address),
                }
            }
            for (address, (bucket, start)) in places {
                let found = match find(&table[bucket as usize], address, start, |_| true) {
                    Found::Hit(_, cell) => Some(class_of(cell) as u16),
                    Found::Miss => None,
                    Found::Full => hosts.get(&address).filter(|_| full.contains(&address)).copied(),
                };
                prop_assert_eq!(found, hosts.get(&address).copied());
            }
        }
    }

    #[test]
    fn a_full_bucket_overflows_and_says_so() {
        let seed = 7;
        let mask = buckets(64, 0) as u32 - 1;
        let is_first = |address: &Words6| hosts::slot(hosts::fingerprint6(address, seed).1, mask).0 == 0;
        // Addresses of one bucket, and enough others for the table to have that many buckets.
        let (one, others): (Vec<_>, Vec<_>) = (1..2000).map(|number| [0x2001, 0, 0, number]).partition(is_first);
        let list: Vec<_> = one.iter().take(12).chain(others.iter().take(52)).map(|&address| (address, 5)).collect();
        let tables = build6(&list, 0, seed);
        assert_eq!(tables.0.len(), mask as usize + 1);
        assert!(tables.2.len() >= 4);
        for address in &one[..12] {
            assert_eq!(lookup(&tables, address, seed), Some(5));
        }
    }

    #[test]
    fn consecutive_hosts_spread_over_the_buckets() {
        let list: Vec<_> = (0..65_536).map(|number| ([0x2620_0149, 0, 0, number], 1)).collect();
        let (.., overflow) = build6(&list, 0, 0x1234_5678);
        assert!(overflow.len() < 100, "{} of 65,536 overflow", overflow.len());
    }
}
