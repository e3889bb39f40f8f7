//! Facts to tables: zones of sources, local destinations, interfaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use enforcer_ebpf::{
    abi::{BLOCK_WORDS, INTERFACES, Interface as Cell, Net, Role, Verdict, ZONES, flow, place, run_of},
    address::host_bit,
    classify,
};
use ipnet::IpNet;
use thiserror::Error;

use super::{
    facts::{Facts, Interface},
    places::{Places, Said, Word, well_known},
};
use crate::compile::{
    prefixes::Prefix,
    trie::{self, Blocks},
};

/// Why facts and configuration do not go together.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NetError {
    /// Frames of other interfaces would be judged as this one's.
    #[error(
        "{0} also carries {1}, whose frames would be judged as its own; name those as --lan instead, and give the untagged network a VLAN of its own"
    )]
    Carrier(String, String),
    /// The gateway's own loopback.
    #[error("lo carries the gateway's own traffic; it is no LAN or WAN")]
    Loopback,
    /// A bridge with ports that no program is on.
    #[error("{0} has ports that are no --lan: {1}; name {0} itself, or all of its ports")]
    OpenPorts(String, String),
    /// More LANs than zones.
    #[error("{0} LANs, more than the 255 that can be told apart")]
    TooManyLans(usize),
    /// Two interface indices share a cell.
    #[error("interfaces {0} and {1} have indices that are equal modulo {INTERFACES}; create one of them anew")]
    Collision(String, String),
    /// More IPv6 addresses and routes beyond /64 than their map has room for.
    #[error("{0} IPv6 addresses and routes longer than /64, more than {1}; aggregate them")]
    TooManyLong(usize, usize),
    /// The routing table is too large for its memory.
    #[error("the LANs' addresses and routes need {0} blocks of memory, more than {1}; aggregate routes")]
    TooManyRoutes(usize, usize),
}

/// So many prefixes of several interfaces are told by name.
const SHARED_TOLD: usize = 3;

/// Interfaces with programs on them, by index: one that was deleted and made again under its old name has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Clients are behind them.
    pub lans: Vec<u32>,
    /// They lead outside.
    pub wans: Vec<u32>,
}

impl Roles {
    /// Whether programs are on an interface.
    #[must_use]
    pub fn has(&self, index: u32) -> bool {
        self.lans.contains(&index) || self.wans.contains(&index)
    }
}

/// Words and switches of a policy that belong to packets before any rule.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Whether sources are checked.
    pub strict_sources: bool,
    /// Whether an inbound rule lets replies pass.
    pub replies: bool,
    /// Seconds for which connections from outside are remembered, by state.
    pub timeouts: [u32; flow::STATES],
    /// Verdicts by pseudo rule.
    pub pseudo: [Verdict; 16],
}

/// The network's part of the tables, not yet placed in memory.
pub struct NetImage {
    places4: Vec<Prefix<u32>>,
    places6: Vec<Prefix<u128>>,
    /// Places beyond /64, for the `PLACES6` map.
    long6: Vec<Prefix<u128>>,
    interfaces: Vec<Cell>,
    words: Words,
    /// What of the network may not be as the operator means it, though packets are judged by it.
    pub warnings: Vec<String>,
}

impl NetImage {
    /// The network as these facts say, with programs on the interfaces of these roles.
    ///
    /// # Errors
    /// If there are too many LANs, or interfaces collide.
    pub fn new(facts: &Facts, roles: &Roles, words: Words) -> Result<Self, NetError> {
        let zones = zones(facts, &roles.lans)?;
        let zone = |index: u32| {
            let interface = facts.indexed(index)?;
            zones.get(&facts.link_of(interface)).copied()
        };
        let mut said = well_known();
        // Every link has the same ones, behind none of them.
        let is_every_links = |net: &IpNet| match net.addr() {
            IpAddr::V4(address) => address.is_multicast(),
            IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
        };
        for route in facts.routes.iter().filter(|route| !is_every_links(&route.to)) {
            let zone = route.interface.and_then(zone).unwrap_or(0);
            said.push(Said { net: route.to, zone: Some((Word::Route(route.metric), zone)), flags: 0 });
        }
        for address in facts.addresses.iter().filter(|address| !is_every_links(&address.net)) {
            // What a neighbour's router advertisement made this gateway believe must not widen what is local.
            if let Some(zone) = zone(address.interface).filter(|_| !address.advertised) {
                said.push(Said { net: address.net, zone: Some((Word::Address, zone)), flags: place::LOCAL });
                said.extend(address.broadcast.map(|broadcast| Said::fixed(broadcast.into(), place::LOCAL)));
            }
        }
        // As a source from a LAN, the gateway's own address is forged.
        let addresses = facts.addresses.iter().map(|address| IpNet::from(address.own));
        let own = addresses.chain(facts.own.iter().copied()).filter(|net| !net.addr().is_loopback());
        said.extend(own.map(|net| Said::fixed(net, place::OWN)));
        let mut cells: Vec<(&Interface, Cell)> = Vec::new();
        for interface in &facts.interfaces {
            let zone = zone(interface.index);
            if zone.is_none() && !roles.wans.contains(&interface.index) {
                continue;
            }
            let slot = |index: u32| index as usize % INTERFACES;
            if let Some((other, _)) = cells.iter().find(|(other, _)| slot(other.index) == slot(interface.index)) {
                return Err(NetError::Collision(other.name.clone(), interface.name.clone()));
            }
            let zone = zone.unwrap_or(0);
            let judged = is_judged(facts, roles, interface).into();
            let (index, layer3, mac) = (interface.index, interface.layer3.into(), bytemuck::cast(interface.mac));
            let cell = Cell { role: Role { index, layer3, judged, zone, reserved: 0 }, mac, padding: 0 };
            cells.push((interface, cell));
        }
        let interfaces = cells.into_iter().map(|(_, cell)| cell).collect();
        let Places { v4, v6, shared } = Places::new(said);
        let owner = |zone: u8| {
            let link = zones.iter().find(|&(_, &of)| of == zone).and_then(|(&link, _)| facts.indexed(link));
            link.map_or("no LAN", |link| &link.name)
        };
        let mut warnings: Vec<String> = shared
            .iter()
            .take(SHARED_TOLD)
            .map(|&(net, zone)| {
                format!(
                    "addresses or routes lead to {net} by several interfaces with equal right: it counts as behind {}, and unless the policy says \
                     sources = \"any\", what it sends by another is refused as forged; give one route a smaller metric, or make one bridge of the LANs",
                    owner(zone)
                )
            })
            .collect();
        if shared.len() > SHARED_TOLD {
            warnings.push(format!(
                "so it is with {} more prefixes that several interfaces lead to",
                shared.len() - SHARED_TOLD
            ));
        }
        let (places6, long6) = v6.into_iter().partition(|prefix| prefix.length <= 64);
        Ok(Self { places4: v4, places6, long6, interfaces, words, warnings })
    }

    /// Entries of the `PLACES6` map: address, prefix length and place.
    pub fn long6(&self) -> impl Iterator<Item = (u128, u8, u32)> {
        self.long6.iter().map(|prefix| (prefix.address, prefix.length, prefix.value))
    }

    /// The tables, with the tries' blocks from number `first` on; nothing else of `words` is filled, and the policies' roots are zero.
    ///
    /// # Errors
    /// If there are more than `limit` blocks.
    pub fn at(&self, first: usize, limit: usize) -> Result<Box<Net>, NetError> {
        let mut net: Box<Net> = bytemuck::zeroed_box();
        let mut blocks = Blocks::from(first as u32, limit);
        trie::build4(&mut net.place4, &self.places4, 0, &mut blocks, None);
        trie::build6(&mut net.place6, &self.places6, 0, &mut blocks);
        if blocks.exceeded() {
            return Err(NetError::TooManyRoutes(blocks.count(), limit));
        }
        for (slot, block) in net.words.chunks_exact_mut(BLOCK_WORDS).skip(first).zip(blocks.into_blocks()) {
            slot.copy_from_slice(&block);
        }
        let local = |value: u32| value & (place::LOCAL | place::OWN) != 0;
        for prefix in self.places4.iter().filter(|prefix| local(prefix.value)) {
            let first = (prefix.address >> 24) as usize;
            net.near4[first..first + (1 << 8_u8.saturating_sub(prefix.length))].fill(1);
        }
        for prefix in self.places6.iter().chain(&self.long6).filter(|prefix| local(prefix.value)) {
            mark(&mut net.near6, (prefix.address >> 112) as usize, prefix.length);
        }
        for prefix in self.long6.iter().filter(|prefix| prefix.length == 128) {
            let bit = host_bit(&[96, 64, 32, 0].map(|shift| (prefix.address >> shift) as u32));
            net.hosts6[bit / 32] |= 1 << (bit % 32);
        }
        net.sources4 = sources(&net, &self.places4);
        for cell in &self.interfaces {
            net.interfaces[cell.role.index as usize % INTERFACES] = *cell;
        }
        net.strict_sources = self.words.strict_sources.into();
        net.replies = self.words.replies.into();
        net.timeouts = self.words.timeouts;
        net.pseudo = self.words.pseudo.map(|verdict| verdict.0);
        Ok(net)
    }
}

/// By zone, the longest run of IPv4 addresses that are its sources, as the trie has it.
fn sources(net: &Net, places: &[Prefix<u32>]) -> [u64; ZONES] {
    let zone_of = |address: u32| {
        let word = |index: u32| net.words.get(index as usize).copied();
        let place = classify::walk4(net.place4[(address >> 16) as usize], address, &word).unwrap_or(0);
        if place & place::OWN == 0 { (place & place::ZONE) as usize } else { 0 }
    };
    let both_ends = |prefix: &Prefix<u32>| {
        let first = u64::from(prefix.address);
        [first, first + (1 << (32 - prefix.length))]
    };
    let mut ends: Vec<u64> = places.iter().flat_map(both_ends).collect();
    ends.sort_unstable();
    ends.dedup();
    // Between two ends that follow each other, all addresses are in the same prefixes.
    let parts: Vec<_> = ends.windows(2).map(|ends| (ends[0], ends[1], zone_of(ends[0] as u32))).collect();
    let mut runs = [0; ZONES];
    for run in parts.chunk_by(|(.., zone), (.., next)| zone == next) {
        let ((first, _, zone), (_, end, _)) = (run[0], run[run.len() - 1]);
        // A run of all addresses leaves out the last one, which the trie knows.
        let count = (end - first).min(u32::MAX.into());
        if zone != 0 && count > runs[zone] >> 32 {
            runs[zone] = run_of(first as u32, count as u32);
        }
    }
    runs
}

/// Sets the bits of the /16s that an IPv6 prefix touches.
fn mark(bits: &mut [u32; 1 << 11], first: usize, length: u8) {
    for index in first..first + (1_usize << 16_u8.saturating_sub(length)) {
        bits[index / 32] |= 1 << (index % 32);
    }
}

/// Whether programs see all that comes in by an interface: on itself, or on every port of it.
fn is_judged(facts: &Facts, roles: &Roles, interface: &Interface) -> bool {
    let hooked = |interface: &Interface| roles.lans.contains(&interface.index);
    let mut ports = facts.ports_of(interface.index).peekable();
    hooked(interface) || (interface.joins && ports.peek().is_some() && ports.all(hooked))
}

/// What an operator must change for the LANs to be judged as meant; what comes in past the programs is denied at the WAN until then.
#[must_use]
pub fn problems(facts: &Facts, roles: &Roles) -> Vec<NetError> {
    let mut problems = Vec::new();
    let lans: Vec<&Interface> = roles.lans.iter().filter_map(|&index| facts.indexed(index)).collect();
    let names = |interfaces: Vec<&Interface>| -> String {
        interfaces.iter().map(|interface| interface.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    if roles.lans.iter().chain(&roles.wans).any(|&index| facts.indexed(index).is_some_and(|found| found.name == "lo")) {
        problems.push(NetError::Loopback);
    }
    for lan in &lans {
        let carried: Vec<_> = facts.interfaces.iter().filter(|other| other.carrier == Some(lan.index)).collect();
        if !carried.is_empty() {
            problems.push(NetError::Carrier(lan.name.clone(), names(carried)));
        }
    }
    let masters: BTreeSet<u32> = lans.iter().map(|lan| facts.link_of(lan)).collect();
    for master in masters.iter().filter_map(|&index| facts.indexed(index)) {
        if !is_judged(facts, roles, master) {
            let open = facts.ports_of(master.index).filter(|port| !roles.lans.contains(&port.index)).collect();
            problems.push(NetError::OpenPorts(master.name.clone(), names(open)));
        }
    }
    problems
}

/// Zones by link, numbered by the LANs' indices: they stay what they are while the LANs are the same.
fn zones(facts: &Facts, lans: &[u32]) -> Result<BTreeMap<u32, u8>, NetError> {
    let mut zones = BTreeMap::new();
    for interface in BTreeSet::from_iter(lans).into_iter().filter_map(|&index| facts.indexed(index)) {
        let next = u8::try_from(zones.len() + 1).map_err(|_| NetError::TooManyLans(lans.len()))?;
        zones.entry(facts.link_of(interface)).or_insert(next);
    }
    Ok(zones)
}
