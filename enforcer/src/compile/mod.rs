//! Policy to tables: recursive flow classification, resolved here once so that a packet pays array loads only.
//!
//! `clauses` numbers the sets that rules speak of, `prefixes` and `ports` turn overlapping sets into disjoint classes, `rows` turns classes into
//! verdicts, `trie`, `spans`, `groups` and `hosts` lay addresses out. All of it is pure.

pub mod addresses;
mod clauses;
mod family;
mod groups;
mod hosts;
mod image;
mod live;
pub(crate) mod ports;
pub mod prefixes;
mod rows;
mod samplings;
pub(crate) mod sets;
mod spans;
pub mod trie;
mod words;

use std::borrow::Cow;

use enforcer_ebpf::{
    abi::{BLOCK_WORDS, Block, INLINE_WORDS, LongKey, OverflowKey, POLICIES, PolicyId, Verdict, Words6, cell, pseudo},
    classify,
};
use thiserror::Error;

pub use addresses::Addresses;
pub use clauses::{Clause, Counted};
use clauses::{Clauses, UNADMITTED};
use family::{Family, OUTERMOST, nest};
pub use image::{Image, Usage};
pub use live::{Live, NoRoom};
use prefixes::Prefix;
use rows::{Rows, TooLarge};
use samplings::Samplings;
use sets::Sets;
use spans::Lines;
use trie::Blocks;

use crate::{
    moments::{self, Moments},
    policy::{Log, Policy, Rule, ScheduleId},
};

/// Ceilings of the tables; a policy that needs more is refused before anything is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Blocks of 1 KiB, tries, spans, groups and class tables together.
    pub blocks: usize,
    /// Hosts of each family.
    pub hosts: usize,
    /// Addresses of names, of each family; room for them is kept if rules name any.
    pub learned: usize,
    /// Clauses: pairs of rule and service; each has a counter on every CPU.
    pub clauses: usize,
    /// Words of each class table.
    pub class_words: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { blocks: 512 * 1024, hosts: 4_000_000, learned: 65_536, clauses: 262_144, class_words: 32 * 1024 * 1024 }
    }
}

/// Why a policy was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// A table would be larger than allowed.
    #[error("the policy needs {needed} {what}, more than the limit of {limit}: {advice}")]
    TooLarge {
        /// What there would be too many of.
        what: &'static str,
        /// How many it needs, at least.
        needed: usize,
        /// How many are allowed.
        limit: usize,
        /// What to do.
        advice: &'static str,
    },
}

const fn too_large(what: &'static str, needed: usize, limit: usize, advice: &'static str) -> CompileError {
    CompileError::TooLarge { what, needed, limit, advice }
}

const FEWER_SETS: &str =
    "write fewer services whose prefixes overlap, or fewer rules with sources and ports of their own";

/// Row units that a host cell's 15 bits can name.
const HOST_CLASSES: usize = 1 << 15;

/// Compiles a policy. `seed` keys the host tables and should be random.
///
/// # Errors
/// If a table would exceed its limit.
pub fn compile(policy: &Policy, limits: &Limits, seed: u32) -> Result<Image, CompileError> {
    let clauses = [&policy.lan, &policy.router, &policy.inbound].map(clauses::count).iter().sum();
    if clauses > limits.clauses {
        return Err(too_large(
            "pairs of rule and service",
            clauses,
            limits.clauses,
            "name fewer services in fewer rules",
        ));
    }
    let moments = Moments::of(policy).map_err(|needed| {
        too_large("combinations of schedules", needed, moments::MOST, "use fewer schedules, or fewer time zones")
    })?;
    let mut samplings = Samplings::default();
    let mut image = Image {
        // Too large for a stack.
        roots: bytemuck::zeroed_slice_box(POLICIES),
        blocks: Vec::new(),
        hosts4: Vec::new(),
        hosts6: Vec::new(),
        keys6: Vec::new(),
        overflow: Vec::new(),
        long6: Vec::new(),
        counters: Vec::new(),
        samplings: Vec::new(),
        moment_words: [0; POLICIES],
        live: Vec::new(),
        words: words::words(policy, &mut samplings),
        usage: Usage { clauses, ..Usage::default() },
    };
    let policies = [
        (PolicyId::Lan, &policy.lan, pseudo::DEFAULT),
        (PolicyId::Router, &policy.router, pseudo::ROUTER_DEFAULT),
        (PolicyId::Inbound, &policy.inbound, pseudo::DEFAULT),
    ];
    for (id, rules, default) in policies {
        let states = 1 + u32::from(rules.rules.iter().any(Rule::closes));
        let moments = if states == 1 { moments.sets().into() } else { with_admission(moments.sets()) };
        let context = Context { moments: &moments, states, limits, seed };
        let numbered = clauses::number(policy, rules, pseudo::COUNT + image.counters.len() as u32, &mut samplings);
        let default = samplings.mark(Verdict::new(policy.watched(rules.default), default), Log::Denied);
        context.add(&mut image, id, numbered, default)?;
    }
    let rates = samplings.count();
    if rates > Verdict::SAMPLINGS as usize {
        return Err(too_large("sampling rates", rates, Verdict::SAMPLINGS as usize, "log more rules at the same rate"));
    }
    image.samplings = samplings.into_rates();
    image.usage.blocks = image.blocks.len();
    image.usage.bytes = size_of_val(&*image.roots)
        + size_of_val(&*image.blocks)
        + size_of_val(&*image.hosts4)
        + size_of_val(&*image.hosts6)
        + size_of_val(&*image.keys6);
    Ok(image)
}

/// Each moment twice: for clients that are not admitted, and for those that are.
fn with_admission(moments: &[Vec<ScheduleId>]) -> Cow<'static, [Vec<ScheduleId>]> {
    // Its number is above all schedules': the sets stay sorted.
    moments.iter().flat_map(|moment| [[&moment[..], &[UNADMITTED]].concat(), moment.clone()]).collect()
}

/// What a policy's rules are compiled by.
struct Context<'a> {
    moments: &'a [Vec<ScheduleId>],
    /// How many of them in a row are of one time.
    states: u32,
    limits: &'a Limits,
    seed: u32,
}

impl Context<'_> {
    /// Compiles one policy's rules into the image.
    fn add(
        &self,
        image: &mut Image,
        id: PolicyId,
        numbered: Clauses<'_>,
        default: Verdict,
    ) -> Result<(), CompileError> {
        let Self { moments, states, limits, seed } = *self;
        image.counters.extend(numbered.counted.iter().map(|counted| (id, counted.clone())));

        let root = &mut image.roots[id as usize];
        let port_classes = ports::classes(&numbered.ports, &mut root.ports, limits.class_words).ok_or(too_large(
            "port classes or elements of them",
            1 << 16,
            1 << 16,
            FEWER_SETS,
        ))?;

        let mut destinations = Sets::default();
        let (dst4, dst6) = nest(&numbered.destinations, &mut destinations, limits)?;
        let dst4 = Family::split(dst4, |prefix| prefix.length == 32, 32);
        let dst6 = Family::split(dst6, |prefix| prefix.length == 128, 64);
        let mut sources = Sets::default();
        let (src4, src6) = nest(&numbered.sources, &mut sources, limits)?;
        let src4 = Family::split(src4, |_| false, 32);
        let src6 = Family::split(src6, |_| false, 64);

        // Hosts' rows first: their cells have 15 bits for the class.
        let mut rows = Rows::new(&numbered.clauses, numbered.destinations.len(), limits.class_words);
        // Names' addresses come later.
        let learns = limits.learned > 0 && numbered.named && id != PolicyId::Inbound;
        let mut classes = vec![None; destinations.len()];
        let hosts = dst4.hosts.iter().map(|host| host.value).chain(dst6.hosts.iter().map(|host| host.value));
        for set in hosts {
            class_of(&mut classes, &mut rows, &destinations, set)?;
        }
        if learns {
            rows.keep_room();
        }
        if rows.units() > HOST_CLASSES {
            return Err(too_large("row units for host addresses", rows.units(), HOST_CLASSES, FEWER_SETS));
        }
        let mut class = |set| class_of(&mut classes, &mut rows, &destinations, set);
        let dst4 = dst4.map(&mut class)?;
        let dst6 = dst6.map(&mut class)?;
        let outside = class(OUTERMOST)?;
        let source_classes = sources.len();
        let (words, live) =
            rows.finish(sources, port_classes, numbered.by_service, moments).map_err(|TooLarge(what, needed)| {
                too_large(
                    match what {
                        "rows" => "words of verdict rows",
                        "groups" => "words of source tables",
                        _ => "words of port tables",
                    },
                    needed,
                    limits.class_words,
                    FEWER_SETS,
                )
            })?;

        image.usage.class_words += words.len();
        let mut blocks = Blocks::from(words.len().div_ceil(BLOCK_WORDS) as u32, limits.blocks);
        let mut lines = Lines::above(&dst4.hosts);
        trie::build4(&mut root.dst4, &dst4.prefixes, outside, &mut blocks, Some(&mut lines));
        trie::build6(&mut root.dst6, &dst6.prefixes, outside, &mut blocks);
        // A source's leaf is where its class's part of the table begins.
        let part = |class| Ok(class * live.stride());
        let (src4, src6) = (src4.map(part)?, src6.map(part)?);
        if source_classes > 1 {
            trie::build4(&mut root.src4, &src4.prefixes, OUTERMOST, &mut blocks, None);
            trie::build6(&mut root.src6, &src6.prefixes, OUTERMOST, &mut blocks);
            add_long(&mut image.long6, id as u32 + classify::SOURCE_SPACE, &mut root.src6, &src6.long);
        }
        let too_many = |needed| {
            let advice = "use shorter prefixes, or list addresses as hosts (/32, /128), which take less";
            Err(too_large("blocks of 1 KiB or more", needed, limits.blocks, advice))
        };
        if blocks.exceeded() {
            return too_many(blocks.count());
        }
        root.layout.source_classes = (source_classes * moments.len()) as u32;
        let part = source_classes as u32 * live.stride();
        image.moment_words[id as usize] = states * part;
        root.layout.admitted = (states - 1) * part;
        image.live.push(live);
        root.layout.seed = seed;
        root.layout.default = default;
        root.layout.blocks = image.blocks.len() as u32;
        place(&mut root.words, &mut image.blocks, &words, &blocks.into_blocks());
        if image.blocks.len() > limits.blocks {
            return too_many(image.blocks.len());
        }
        self.add_hosts(image, id, &dst4, &dst6, lines, if learns { limits.learned } else { 0 })?;
        image.usage.prefixes4 += dst4.prefixes.len() + src4.prefixes.len();
        image.usage.prefixes6 += dst6.prefixes.len() + src6.prefixes.len();
        Ok(())
    }

    /// Builds the hosts' groups and tables and the long prefixes, and marks the root cells above them.
    fn add_hosts(
        &self,
        image: &mut Image,
        id: PolicyId,
        dst4: &Family<u32>,
        dst6: &Family<u128>,
        lines: Lines,
        learned: usize,
    ) -> Result<(), CompileError> {
        let Self { limits, seed, .. } = *self;
        for hosts in [dst4.hosts.len(), dst6.hosts.len()] {
            if hosts > limits.hosts {
                return Err(too_large("host addresses", hosts, limits.hosts, "join neighbours into prefixes"));
            }
        }
        let root = &mut image.roots[id as usize];
        let mut list: Vec<_> = dst4.hosts.iter().map(|host| (host.address, host.value)).collect();
        root.layout.lines = image.blocks.len() as u32;
        let room = limits.blocks.saturating_sub(image.blocks.len());
        image.blocks.extend(groups::build(&mut root.dst4, &mut list, lines.lines, seed, room).ok_or(too_large(
            "blocks of 1 KiB or more",
            limits.blocks + 1,
            limits.blocks,
            "join neighbours into prefixes",
        ))?);
        let table = hosts::empty(learned);
        root.layout.hosts4 = image.hosts4.len() as u32;
        root.layout.hosts4_mask = (table.len() as u32).saturating_sub(1);
        image.hosts4.extend(table);

        let list: Vec<(Words6, u16)> =
            dst6.hosts.iter().map(|host| (words6(host.address), host.value as u16)).collect();
        for (address, _) in &list {
            root.dst6[(address[0] >> 16) as usize] |= cell::HOSTS;
        }
        let (table, keys, overflow) = hosts::build6(&list, learned, seed);
        root.layout.hosts6 = image.hosts6.len() as u32;
        root.layout.hosts6_mask = (table.len() as u32).saturating_sub(1);
        image.hosts6.extend(table);
        image.keys6.extend(keys);
        image.overflow.extend(
            overflow
                .into_iter()
                .map(|(address, class)| (OverflowKey { space: id as u32 + 4, address }, u32::from(class))),
        );

        add_long(&mut image.long6, id as u32, &mut root.dst6, &dst6.long);
        image.usage.hosts4 += dst4.hosts.len();
        image.usage.hosts6 += dst6.hosts.len();
        Ok(())
    }
}

/// The class of a destination set, its row made when it is first asked for.
fn class_of(classes: &mut [Option<u32>], rows: &mut Rows, sets: &Sets, set: u32) -> Result<u32, CompileError> {
    if let Some(class) = classes[set as usize] {
        return Ok(class);
    }
    let class = rows.class(sets.get(set)).map_err(|TooLarge(_, needed)| {
        too_large("words of verdict rows", needed, needed.saturating_sub(1), FEWER_SETS)
    })?;
    classes[set as usize] = Some(class);
    Ok(class)
}

/// Puts class tables and the trie blocks behind them where they are read: the first blocks into the root, the rest into `further`.
fn place(inline: &mut [u32; INLINE_WORDS], further: &mut Vec<Block>, words: &[u32], blocks: &[Block]) {
    let mut room = inline.chunks_exact_mut(BLOCK_WORDS);
    for chunk in words.chunks(BLOCK_WORDS).chain(blocks.iter().map(|block| &block[..])) {
        if let Some(slot) = room.next() {
            slot[..chunk.len()].copy_from_slice(chunk);
        } else {
            let mut block = [0; BLOCK_WORDS];
            block[..chunk.len()].copy_from_slice(chunk);
            further.push(block);
        }
    }
}

/// Adds prefixes longer than /64 to the LPM map's entries, and marks the root cells above them.
fn add_long(entries: &mut Vec<(u32, LongKey, u32)>, space: u32, root: &mut [u32; 1 << 16], prefixes: &[Prefix<u128>]) {
    for prefix in prefixes {
        root[(prefix.address >> 112) as usize] |= cell::LONG;
        entries.push((u32::from(prefix.length), classify::long_key(space, &words6(prefix.address)), prefix.value));
    }
}

fn words6(address: u128) -> Words6 {
    [96, 64, 32, 0].map(|shift| (address >> shift) as u32)
}

#[cfg(test)]
pub(crate) mod tests;
