//! What a packet costs, by kinds of packets and by sizes of policies, beside the kernel's own structures.

use std::{collections::HashSet, net::IpAddr, path::Path};

use anyhow::{Result, ensure};
use aya::maps::{HashMap, LpmTrie, MapData, lpm_trie::Key};
use enforcer::policy::Action;
use ipnet::IpNet;
use rand::{Rng, RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{
    kinds,
    learning::{self, Learned, PHASES},
    machine::Machine,
    measure::{self, Bench, Pace, frame, stay_on_this_cpu},
    plot::{self, Line},
    sets,
};

/// Prefixes that are allowed, and dropped, by the version of IP.
pub const PREFIXES: [[&str; 2]; 2] =
    [["IPv4 prefixes, allow", "IPv4 prefixes, drop"], ["IPv6 prefixes, allow", "IPv6 prefixes, drop"]];
/// Hosts that the policy knows, and their neighbours.
pub const HOSTS: [&str; 2] = ["IPv4 hosts, hit", "IPv4 hosts, miss"];
/// Rules, by the prefixes that they share out: as few as so many rules can have, and more than a CPU's own cache holds.
pub const RULES: [(&str, usize); 2] =
    [("rules over 10,000 IPv4 prefixes", 10_000), ("rules over 100,000 IPv4 prefixes", 100_000)];
/// Prefixes of both versions of IP, in turn.
pub const FAMILIES: [&str; 2] = ["prefixes in turn, IPv4", "prefixes in turn, IPv6"];
/// How many rules.
pub const COUNTS: [usize; 4] = [10, 100, 1_000, 10_000];
const BOTH: &str = "1M prefixes and 1M hosts";
const LEARNING: &str = "learned names";

const DROP: u32 = 1;
const PASS: u32 = 2;

/// One line of the result.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Prefixes, hosts or rules.
    pub size: usize,
    /// Nanoseconds of the whole verdict above the program that only draws addresses.
    #[serde(rename = "enforcer_ns")]
    pub enforcer: f64,
    /// The same of a look-up in the kernel's own trie.
    #[serde(rename = "lpm_trie_ns")]
    pub lpm_trie: Option<f64>,
    /// And in its hash.
    #[serde(rename = "hash_ns")]
    pub hash: Option<f64>,
    /// Policy to tables.
    pub compile_ms: u128,
    /// Tables to kernel, with the verification of this benchmark's programs.
    pub load_ms: u128,
    /// Kernel memory of the product's maps.
    pub map_mb: f64,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Packets {
    /// By kinds of packets.
    pub kinds: Vec<Row>,
    /// By sizes of policies.
    pub sizes: Vec<Row>,
    /// Addresses that were learned a second, and as many forgotten, while another CPU judged packets by the same tables.
    pub learned_per_second: Option<f64>,
}

/// What is to be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Prefixes and hosts, the smallest first.
    pub sizes: Vec<usize>,
    /// Of everything random: each part begins with it anew, whatever else is measured.
    pub seed: u64,
    /// Only what has this in its name.
    pub only: String,
}

impl Plan {
    fn wants(&self, what: &str) -> bool {
        what.contains(&self.only)
    }

    fn random(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }
}

/// All that [`Plan::only`] can name.
pub fn names() -> impl Iterator<Item = &'static str> {
    let prefixes = PREFIXES.into_iter().flatten().chain(FAMILIES);
    [kinds::NAME].into_iter().chain(prefixes).chain(HOSTS).chain(RULES.map(|(what, _)| what)).chain([BOTH, LEARNING])
}

/// Measures what the plan wants, and prints it row by row.
///
/// # Errors
/// If the kernel refuses, or a program returns what it should not.
pub fn measure(plan: &Plan) -> Result<Packets> {
    let mut packets = Packets::default();
    if !names().any(|name| plan.wants(name)) {
        return Ok(packets);
    }
    stay_on_this_cpu()?;
    println!("ns per packet above an XDP program that only draws addresses; medians of differences, side by side");
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "", "size", "enforcer", "LPM trie", "hash", "compile", "load", "maps"
    );
    for &size in plan.sizes.iter().filter(|_| plan.wants(kinds::NAME)) {
        kinds::measure(size, Pace::of(size), &mut plan.random(), |kind, nanoseconds, bench| {
            packets.kinds.push(printed(row_of(kind, size, bench, &[nanoseconds])));
        })?;
    }
    if FAMILIES.iter().any(|what| plan.wants(what)) {
        packets.kinds.extend(families(&mut plan.random())?.into_iter().map(printed));
    }
    let sizes = &mut packets.sizes;
    for (family, v6) in PREFIXES.into_iter().zip([false, true]) {
        for (what, action) in family.into_iter().zip([Action::Allow, Action::Drop]).filter(|(what, _)| plan.wants(what))
        {
            for &size in &plan.sizes {
                sizes.push(printed(prefixes(what, size, v6, action, &mut plan.random())?));
            }
        }
    }
    for (what, hit) in HOSTS.into_iter().zip([true, false]).filter(|(what, _)| plan.wants(what)) {
        for &size in &plan.sizes {
            sizes.push(printed(hosts(what, size, hit, &mut plan.random())?));
        }
    }
    for (what, prefixes) in RULES.into_iter().filter(|(what, _)| plan.wants(what)) {
        sizes.extend(rules(what, prefixes, &mut plan.random())?.into_iter().map(printed));
    }
    if plan.wants(BOTH) {
        sizes.push(printed(both(&mut plan.random())?));
    }
    if plan.wants(LEARNING) {
        let (rows, rate) = learning(&mut plan.random())?;
        packets.kinds.extend(rows.into_iter().map(printed));
        println!("{rate:.0} addresses were learned, and as many forgotten, a second");
        packets.learned_per_second = Some(rate);
    }
    Ok(packets)
}

/// Random destinations within random prefixes.
fn prefixes(what: &str, size: usize, v6: bool, action: Action, rng: &mut impl Rng) -> Result<Row> {
    let nets = sets::prefixes(rng, size, v6);
    let mut bench = Bench::new(&sets::one_rule(nets.clone(), action), Pace::of(size))?;
    kinds::aim(&mut bench, &nets, rng);
    let expected = if action == Action::Allow { PASS } else { DROP };
    if v6 {
        let mut trie: LpmTrie<MapData, [u32; 4], u32> = bench.take_map("TRIE6")?;
        for net in nets {
            let IpNet::V6(net) = net else { continue };
            let bits = u128::from(net.network());
            let words = [96, 64, 32, 0].map(|shift| ((bits >> shift) as u32).to_be());
            trie.insert(&Key::new(net.prefix_len().into(), words), 1, 0)?;
        }
        return row(what, size, &mut bench, true, expected, &["lpm6"]);
    }
    let mut trie: LpmTrie<MapData, u32, u32> = bench.take_map("TRIE4")?;
    for net in nets {
        let IpNet::V4(net) = net else { continue };
        trie.insert(&Key::new(net.prefix_len().into(), u32::from(net.network()).to_be()), 1, 0)?;
    }
    row(what, size, &mut bench, false, expected, &["lpm4"])
}

/// Random hosts, all of them or none known.
fn hosts(what: &str, size: usize, hit: bool, rng: &mut impl Rng) -> Result<Row> {
    let nets = sets::hosts(rng, size);
    let mut bench = Bench::new(&sets::one_rule(nets.clone(), Action::Allow), Pace::of(size))?;
    if hit {
        kinds::aim(&mut bench, &nets, rng);
    } else {
        // Neighbours of known hosts: the root says that hosts are near, the table that it is none of them.
        let known: HashSet<IpAddr> = nets.iter().map(IpNet::addr).collect();
        bench.aim(|| {
            loop {
                let IpAddr::V4(address) = nets.choose(rng).expect("not empty").addr() else { continue };
                let near = IpAddr::from(std::net::Ipv4Addr::from(
                    u32::from(address) & 0xffff_0000 | rng.random::<u32>() & 0xffff,
                ));
                if !known.contains(&near) {
                    return near;
                }
            }
        });
    }
    let mut trie: LpmTrie<MapData, u32, u32> = bench.take_map("TRIE4")?;
    let mut hash: HashMap<MapData, u32, u32> = bench.take_map("HASH4")?;
    for net in &nets {
        let IpAddr::V4(address) = net.addr() else { continue };
        trie.insert(&Key::new(32, u32::from(address).to_be()), 1, 0)?;
        hash.insert(u32::from(address).to_be(), 1, 0)?;
    }
    row(what, size, &mut bench, false, if hit { PASS } else { DROP }, &["lpm4", "hash4"])
}

/// Few to many rules over the same prefixes, in turn.
fn rules(what: &str, prefixes: usize, rng: &mut impl Rng) -> Result<Vec<Row>> {
    let nets = sets::prefixes(rng, prefixes, false);
    let mut one = |rules| {
        let mut bench = Bench::new(&sets::many_rules(rng, rules, &nets), Pace::LARGE)?;
        kinds::aim(&mut bench, &nets, rng);
        anyhow::Ok((bench, false))
    };
    let mut benches = COUNTS.into_iter().map(&mut one).collect::<Result<Vec<_>>>()?;
    let times = Bench::time_in_turn(&mut benches, PASS)?;
    let rows = COUNTS.into_iter().zip(&benches).zip(times);
    Ok(rows.map(|((count, (bench, _)), time)| row_of(what, count, bench, &[time])).collect())
}

/// As many prefixes of each version of IP, in turn. As many bytes of destinations, so a quarter as many IPv6 ones.
fn families(rng: &mut impl Rng) -> Result<Vec<Row>> {
    let mut one = |v6| {
        let nets = sets::prefixes(rng, kinds::PREFIXES, v6);
        let mut bench = Bench::new(&sets::one_rule(nets.clone(), Action::Allow), Pace::SMALL)?;
        kinds::aim(&mut bench, &nets, rng);
        anyhow::Ok((bench, v6))
    };
    let mut benches = [one(false)?, one(true)?];
    let times = Bench::time_in_turn(&mut benches, PASS)?;
    let rows = FAMILIES.into_iter().zip(&benches).zip(times);
    Ok(rows.map(|((what, (bench, _)), time)| row_of(what, kinds::PREFIXES, bench, &[time])).collect())
}

/// As many prefixes and hosts as a policy is meant to have, in one.
fn both(rng: &mut impl Rng) -> Result<Row> {
    let both = [sets::prefixes(rng, 1_000_000, false), sets::hosts(rng, 1_000_000)].concat();
    let mut bench = Bench::new(&sets::one_rule(both.clone(), Action::Allow), Pace::LARGE)?;
    kinds::aim(&mut bench, &both, rng);
    row(BOTH, both.len(), &mut bench, false, PASS, &[])
}

/// Packets judged while names are learned, and how many addresses a second.
fn learning(rng: &mut impl Rng) -> Result<(Vec<Row>, f64)> {
    let nets = sets::prefixes(rng, kinds::PREFIXES, false);
    let mut policy = sets::one_rule(nets.clone(), Action::Allow);
    policy.services[0].names.push("*.example.org".parse()?);
    let mut bench = Bench::new(&policy, Pace::SMALL)?;
    kinds::aim(&mut bench, &nets, rng);
    let Learned { above, rate } = learning::time(&mut bench, &policy)?;
    let rows = PHASES.into_iter().zip(above);
    Ok((rows.map(|(phase, time)| row_of(phase.name, nets.len(), &bench, &[time])).collect(), rate))
}

fn row(what: &str, size: usize, bench: &mut Bench, v6: bool, expected: u32, others: &[&'static str]) -> Result<Row> {
    let [floor, judge] = measure::programs(v6);
    let programs: Vec<&'static str> = [judge].into_iter().chain(others.iter().copied()).collect();
    let times = bench.time(floor, &programs, &frame(v6)?)?;
    ensure!(times[0].1 == expected, "{what}: the program returned {}, not {expected}", times[0].1);
    let above: Vec<f64> = times.into_iter().map(|(nanoseconds, _)| nanoseconds).collect();
    Ok(row_of(what, size, bench, &above))
}

/// Of nanoseconds: the product's, and the kernel's trie's and hash's where these were timed.
fn row_of(what: &str, size: usize, bench: &Bench, nanoseconds: &[f64]) -> Row {
    Row {
        what: what.to_owned(),
        size,
        enforcer: nanoseconds[0],
        lpm_trie: nanoseconds.get(1).copied(),
        hash: nanoseconds.get(2).copied(),
        compile_ms: bench.compile.as_millis(),
        load_ms: bench.load.as_millis(),
        map_mb: bench.map_bytes as f64 / 1e6,
    }
}

fn printed(row: Row) -> Row {
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    println!(
        "{:<34} {:>9} {:>9.1} {:>9} {:>9} {:>6} ms {:>6} ms {:>5.0} MB",
        row.what,
        row.size,
        row.enforcer,
        cell(row.lpm_trie),
        cell(row.hash),
        row.compile_ms,
        row.load_ms,
        row.map_mb
    );
    row
}

/// Pictures of what was measured at several sizes, and one of the kinds of packets.
pub fn plot(folder: &Path, packets: &Packets, machine: &Machine) -> Result<()> {
    let mut kinds: Vec<_> =
        packets.kinds.iter().filter(|row| row.size == kinds::PREFIXES).map(|row| (&*row.what, row.enforcer)).collect();
    kinds.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    if !kinds.is_empty() {
        let title = format!("A packet's whole verdict, 1,000 prefixes; {machine}");
        let unit = "nanoseconds above an XDP program that only draws addresses";
        plot::bars(&folder.join("kinds.svg"), &title, unit, &kinds)?;
    }
    let names = ["enforcer, whole verdict", "kernel LPM trie, lookup", "kernel hash, lookup"];
    for rows in packets.sizes.chunk_by(|one, next| one.what == next.what) {
        let lines = names.into_iter().enumerate().map(|(index, name)| {
            let value = |row: &Row| [Some(row.enforcer), row.lpm_trie, row.hash][index];
            Line { name, points: rows.iter().filter_map(|row| Some((row.size, value(row)?))).collect() }
        });
        let what = &rows[0].what;
        let (path, title) = (folder.join(plot::file_name(what)), format!("{what}; {machine}"));
        plot::lines(&path, &title, &lines.collect::<Vec<_>>())?;
    }
    Ok(())
}
