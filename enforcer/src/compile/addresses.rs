//! Addresses that come and go while packets are judged: those that names stand for.
//!
//! An address is a host of each policy whose rules name its services. Below its class lies what the policy's prefixes and hosts say of it; an IPv6 host of
//! the policy's own has the same cell, and gets it back. A cell is stored whole, behind everything that it leads to.

use std::{collections::HashMap, net::IpAddr};

use enforcer_ebpf::{
    abi::{Block, Bucket, DRAINING, OverflowKey, PolicyId, Root, Words6, cell, host_cell},
    classify,
    hosts::{self, Found},
};
use ipnet::Ipv6Net;

use super::{Live, NoRoom, hosts as table, words6};
use crate::policy::ServiceId;

/// The tables of an image, wherever they are.
pub trait Tables {
    /// A policy's roots.
    fn root(&self, policy: PolicyId) -> &Root;
    /// A word of a policy's class tables and blocks.
    fn word(&self, policy: PolicyId, index: u32) -> Option<u32>;
    /// An element of `BLOCKS`.
    fn block(&self, element: u32) -> Option<&Block>;
    /// Class of the longest prefix of /65 to /127 in a space.
    fn long6(&self, space: u32, address: &Words6) -> Option<u32>;
    /// A host bucket as it is now.
    fn bucket(&self, v6: bool, bucket: u32) -> Bucket;
    /// The address of an IPv6 host cell.
    fn key(&self, bucket: u32, cell: usize) -> Words6;
    /// Class of a host that its full bucket could not take.
    fn overflow(&self, key: &OverflowKey) -> Option<u32>;
    /// Stores a word.
    fn store_word(&mut self, policy: PolicyId, index: u32, value: u32);
    /// Stores a host cell, at once.
    fn store(&mut self, v6: bool, bucket: u32, cell: usize, value: u64);
    /// Stores the address of an IPv6 host cell.
    fn store_key(&mut self, bucket: u32, cell: usize, key: &Words6);
    /// Stores or removes a host that its full bucket cannot take; whether that could be done.
    fn store_overflow(&mut self, key: &OverflowKey, class: Option<u32>) -> bool;
    /// Says in a root cell, by its index, that hosts lie below.
    fn mark(&mut self, policy: PolicyId, v6: bool, root: usize);
}

/// What an address is in a policy without its names.
#[derive(Clone, Copy)]
struct Below {
    class: u32,
    /// It is a host of the policy's own, in the table for those that come and go (IPv6).
    host: bool,
}

/// Where an address belongs in a host table.
struct Slot {
    v6: bool,
    bucket: u32,
    start: usize,
    tag: u32,
    key: OverflowKey,
}

/// The policies that judge packets to names' addresses.
const POLICIES: [PolicyId; 2] = [PolicyId::Lan, PolicyId::Router];

/// The addresses that were stored.
pub struct Addresses {
    nat64: Vec<Ipv6Net>,
    below: HashMap<(PolicyId, IpAddr), Below>,
}

impl Addresses {
    /// None yet. IPv4 addresses are also those of IPv6 that these NAT64 prefixes make of them.
    #[must_use]
    pub fn new(nat64: &[Ipv6Net]) -> Self {
        Self { nat64: nat64.to_vec(), below: HashMap::new() }
    }

    /// Makes an address one of these services, live or draining, in all policies that name any. A new one's cell begins with an epoch; others keep theirs.
    ///
    /// # Errors
    /// If tables are full; the address is then not, or not everywhere, what it should be.
    pub fn set(
        &mut self,
        tables: &mut impl Tables,
        live: &mut [Live],
        address: IpAddr,
        services: &[ServiceId],
        draining: bool,
        epoch: u16,
    ) -> Result<(), NoRoom> {
        let mut result = Ok(());
        for (policy, address) in self.places(address) {
            let live = &mut live[policy as usize];
            let stored = self.set_in(tables, live, policy, address, services, draining, epoch);
            result = result.and(stored);
        }
        result
    }

    /// Takes an address's services away.
    pub fn remove(&mut self, tables: &mut impl Tables, address: IpAddr) {
        for (policy, address) in self.places(address) {
            self.remove_from(tables, policy, address);
        }
    }

    /// The epochs of an address's last use, by policy; none where it is not known.
    pub fn epochs(&self, tables: &impl Tables, address: IpAddr) -> Vec<Option<u16>> {
        let stored = self.places(address).into_iter().filter(|place| self.below.contains_key(place));
        let epoch = |(policy, address)| match find(tables, &slot(tables.root(policy), policy, address)) {
            Found::Hit(_, value) => Some(hosts::epoch_of(value)),
            Found::Miss | Found::Full => None,
        };
        stored.map(epoch).collect()
    }

    fn places(&self, address: IpAddr) -> Vec<(PolicyId, IpAddr)> {
        let mut all = vec![address];
        if let IpAddr::V4(inner) = address {
            let behind = |outer: &Ipv6Net| (outer.network().to_bits() | u128::from(inner.to_bits())).into();
            all.extend(self.nat64.iter().map(|outer| IpAddr::V6(behind(outer))));
        }
        POLICIES.into_iter().flat_map(|policy| all.iter().map(move |&address| (policy, address))).collect()
    }

    #[expect(clippy::too_many_arguments, reason = "one caller, for each policy")]
    fn set_in(
        &mut self,
        tables: &mut impl Tables,
        live: &mut Live,
        policy: PolicyId,
        address: IpAddr,
        services: &[ServiceId],
        draining: bool,
        epoch: u16,
    ) -> Result<(), NoRoom> {
        if !live.names(services) {
            self.remove_from(tables, policy, address);
            return Ok(());
        }
        let slot = slot(tables.root(policy), policy, address);
        let found = find(tables, &slot);
        let below = self.below.get(&(policy, address)).copied().unwrap_or_else(|| {
            let host = host(tables, &slot);
            let class = host.unwrap_or_else(|| covering(tables, policy, address));
            Below { class, host: host.is_some() }
        });
        // New connections would not be judged as the policy's own host's, but as the prefix's.
        if draining && below.host {
            self.remove_from(tables, policy, address);
            return Ok(());
        }
        let class = live.class(below.class, services, &mut |index, value| tables.store_word(policy, index, value))?;
        let class = class as u16 | if draining { DRAINING } else { 0 };
        let stored = match found {
            Found::Hit(index, value) => {
                tables.store(slot.v6, slot.bucket, index, host_cell(slot.tag, class, hosts::epoch_of(value)));
                true
            }
            Found::Full if tables.overflow(&slot.key).is_some() => tables.store_overflow(&slot.key, Some(class.into())),
            Found::Miss | Found::Full => match table::free(&tables.bucket(slot.v6, slot.bucket), slot.start) {
                Some(index) => {
                    if slot.v6 {
                        tables.store_key(slot.bucket, index, &slot.key.address);
                    }
                    tables.store(slot.v6, slot.bucket, index, host_cell(slot.tag, class, epoch));
                    true
                }
                None => tables.store_overflow(&slot.key, Some(class.into())),
            },
        };
        if !stored {
            return Err(NoRoom);
        }
        self.below.insert((policy, address), below);
        let root = if slot.v6 { slot.key.address[0] } else { slot.key.address[3] };
        tables.mark(policy, slot.v6, (root >> 16) as usize);
        Ok(())
    }

    fn remove_from(&mut self, tables: &mut impl Tables, policy: PolicyId, address: IpAddr) {
        let Some(below) = self.below.remove(&(policy, address)) else { return };
        let slot = slot(tables.root(policy), policy, address);
        match find(tables, &slot) {
            Found::Hit(index, _) if below.host => {
                tables.store(slot.v6, slot.bucket, index, host_cell(slot.tag, below.class as u16, 0));
            }
            Found::Hit(index, _) => {
                for (index, value) in table::emptied(&tables.bucket(slot.v6, slot.bucket), index) {
                    tables.store(slot.v6, slot.bucket, index, value);
                }
            }
            Found::Full => {
                tables.store_overflow(&slot.key, below.host.then_some(below.class));
            }
            Found::Miss => {}
        }
    }
}

fn slot(root: &Root, policy: PolicyId, address: IpAddr) -> Slot {
    let layout = &root.layout;
    match address {
        IpAddr::V4(address) => {
            let address = address.to_bits();
            let (bucket, start) = hosts::slot4(address, layout.seed, layout.hosts4_mask);
            let key = OverflowKey { space: policy as u32, address: [0, 0, 0, address] };
            Slot { v6: false, bucket: layout.hosts4 + bucket, start, tag: address, key }
        }
        IpAddr::V6(address) => {
            let address = words6(address.to_bits());
            let (tag, hash) = hosts::fingerprint6(&address, layout.seed);
            let (bucket, start) = hosts::slot(hash, layout.hosts6_mask);
            let key = OverflowKey { space: policy as u32 + 4, address };
            Slot { v6: true, bucket: layout.hosts6 + bucket, start, tag, key }
        }
    }
}

fn find(tables: &impl Tables, slot: &Slot) -> Found {
    let same = |cell| !slot.v6 || tables.key(slot.bucket, cell) == slot.key.address;
    hosts::find(&tables.bucket(slot.v6, slot.bucket), slot.tag, slot.start, same)
}

/// The class of a host that has a place in the tables: policies' own are there in IPv6 alone.
fn host(tables: &impl Tables, slot: &Slot) -> Option<u32> {
    match find(tables, slot) {
        Found::Hit(_, value) => Some(hosts::class_of(value)),
        Found::Miss => None,
        Found::Full => tables.overflow(&slot.key),
    }
}

/// Whether a policy has an address as a host.
#[cfg(test)]
pub fn is_host(tables: &impl Tables, policy: PolicyId, address: IpAddr) -> bool {
    host(tables, &slot(tables.root(policy), policy, address)).is_some()
}

/// The class of the longest prefix that covers an address; in IPv4 also that of a host.
fn covering(tables: &impl Tables, policy: PolicyId, address: IpAddr) -> u32 {
    let root = tables.root(policy);
    let word = |index| tables.word(policy, index);
    let class = match address {
        IpAddr::V4(address) => {
            let address = address.to_bits();
            let cell = root.dst4[(address >> 16) as usize];
            classify::below4(&root.layout, cell, address, |element| tables.block(element))
                .and_then(|cell| classify::walk4(cell, address, &word))
        }
        IpAddr::V6(address) => {
            let address = words6(address.to_bits());
            let root = root.dst6[(address[0] >> 16) as usize];
            let long = if root & cell::LONG == 0 { None } else { tables.long6(policy as u32, &address) };
            long.or_else(|| classify::walk6(root & cell::TRIE, &address, &word))
        }
    };
    class.expect("tables that the compiler made are whole")
}
