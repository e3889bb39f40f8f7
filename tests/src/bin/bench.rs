//! Nanoseconds per packet, memory and loading times, beside the kernel's own structures in the same run; and packets a second through a gateway, beside what
//! others filter them with.

use std::{
    collections::BTreeMap,
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{HashMap, LpmTrie, MapData, lpm_trie::Key};
use clap::Parser;
use enforcer::policy::{Action, Policy};
use enforcer_tests::bench::{
    control, end_to_end, kinds, learning,
    machine::Machine,
    measure::{Bench, Pace, frame, stay_on_this_cpu},
    plot::{self, Line},
    programs, sets,
};
use ipnet::IpNet;
use rand::{Rng, RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Time the data plane
#[derive(Parser)]
struct Arguments {
    /// Sizes to measure at, each up to a million
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 100_000, 1_000_000],
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sizes: Vec<u32>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the kinds of measurement whose name has this in it
    #[arg(long, default_value = "", value_name = "TEXT")]
    only: String,
    /// Write the figures as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures into a folder, too, as SVG
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

const PROGRAMS: &str = "programs";
const HIT: &str = "IPv4 hosts, hit";
const MISS: &str = "IPv4 hosts, miss";
const RULES: &str = "rules over 100,000 IPv4 prefixes";
const BOTH: &str = "1M prefixes and 1M hosts";
const QUIET: &str = "IPv4 prefixes, names learned aside";
const LEARNING: &str = "IPv4 prefixes, names learned";

const DROP: u32 = 1;
const PASS: u32 = 2;

/// One line of the result: nanoseconds above the empty program, but for the last four.
#[derive(Serialize)]
struct Row {
    what: String,
    size: usize,
    enforcer: f64,
    lpm_trie: Option<f64>,
    hash: Option<f64>,
    compile_ms: u128,
    load_ms: u128,
    map_mb: f64,
}

/// Everything that was measured.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    programs: Vec<programs::Size>,
    per_packet: Vec<Row>,
    end_to_end: Vec<end_to_end::Row>,
    control: Vec<control::Figure>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Minutes before there is anything to write; what an earlier run wrote stays until then.
    if let Some(path) = &arguments.json {
        File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(folder) = &arguments.svg {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let machine = Machine::here()?;
    println!("{machine}");
    let end_to_end = if end_to_end::NAME.contains(&arguments.only) {
        let plan = end_to_end::Plan { hosts: 1000, rounds: end_to_end::ROUNDS, sample: Some(end_to_end::SAMPLE) };
        let rows = end_to_end::measure(plan, &mut ChaCha8Rng::seed_from_u64(arguments.seed))?;
        end_to_end::print(&rows);
        rows
    } else {
        Vec::new()
    };
    let control = if control::NAME.contains(&arguments.only) {
        let figures = control::measure(&control::PLAN, &mut ChaCha8Rng::seed_from_u64(arguments.seed))?;
        control::print(&figures);
        figures
    } else {
        Vec::new()
    };
    let programs = if PROGRAMS.contains(&arguments.only) { programs::sizes()? } else { Vec::new() };
    let report = Report { machine, programs, per_packet: per_packet(&arguments)?, end_to_end, control };
    if !report.programs.is_empty() {
        programs::print(&report.programs);
    }
    let is_empty = report.programs.is_empty() && report.per_packet.is_empty();
    if is_empty && report.end_to_end.is_empty() && report.control.is_empty() {
        bail!("no measurement has {:?} in its name; try `--only prefixes`, or --help", arguments.only);
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(folder) = &arguments.svg {
        end_to_end::plot(folder, &report.end_to_end, &report.machine)?;
        plot_packets(folder, &report.per_packet)?;
    }
    Ok(())
}

/// Pictures of what was measured at several sizes, and one of all else.
fn plot_packets(folder: &Path, rows: &[Row]) -> Result<()> {
    type Figure = fn(&Row) -> Option<f64>;
    let series: [(_, Figure); 3] = [
        ("enforcer, whole verdict", |row| Some(row.enforcer)),
        ("kernel LPM trie, lookup", |row| row.lpm_trie),
        ("kernel hash, lookup", |row| row.hash),
    ];
    let mut kinds: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| kinds.entry(&row.what).or_default().push(row));
    let mut alone: Vec<_> = rows.iter().filter(|row| kinds[&*row.what].len() == 1).collect();
    alone.sort_by(|one, other| one.enforcer.total_cmp(&other.enforcer));
    let bars: Vec<_> = alone.iter().map(|row| (&*row.what, row.enforcer)).collect();
    if !bars.is_empty() {
        let title = "A packet's whole verdict, by kinds of packets";
        plot::bars(
            &folder.join("kinds.svg"),
            title,
            "nanoseconds above an XDP program that only draws the destination",
            &bars,
        )?;
    }
    for (what, rows) in kinds.into_iter().filter(|(_, rows)| rows.len() > 1) {
        let lines = series.map(|(name, value)| Line {
            name,
            points: rows.iter().filter_map(|row| Some((row.size, value(row)?))).collect(),
        });
        plot::lines(&folder.join(plot::file_name(what)), what, &lines)?;
    }
    Ok(())
}

fn per_packet(arguments: &Arguments) -> Result<Vec<Row>> {
    stay_on_this_cpu()?;
    let mut rows = Vec::new();
    let mut add = |row: Row| {
        if rows.is_empty() {
            println!(
                "ns per packet above an XDP program that only draws the destination; medians of differences, side by side"
            );
            println!(
                "{:<34} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
                "", "size", "enforcer", "LPM trie", "hash", "compile", "load", "maps"
            );
        }
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
        rows.push(row);
    };
    let mut rng = ChaCha8Rng::seed_from_u64(arguments.seed);
    let wanted = |what: &str| what.contains(&arguments.only);
    let sizes = || arguments.sizes.iter().map(|&size| size as usize);
    if wanted(kinds::NAME) {
        kinds::measure(Pace::SMALL, &mut rng, |kind, nanoseconds, bench| {
            add(figures(kind, kinds::PREFIXES, bench, [Some(nanoseconds), None, None]));
        })?;
    }
    for v6 in [false, true] {
        for size in sizes() {
            let nets = sets::prefixes(&mut rng, size, v6);
            for action in [Action::Allow, Action::Drop] {
                let policy = sets::one_rule(nets.clone(), action);
                let what = format!(
                    "IPv{} prefixes, {}",
                    if v6 { 6 } else { 4 },
                    if action == Action::Allow { "allow" } else { "drop" }
                );
                let expected = if action == Action::Allow { PASS } else { DROP };
                if !wanted(&what) {
                    continue;
                }
                add(prefixes(&what, &policy, &nets, v6, expected, &mut rng)?);
            }
        }
    }
    for size in sizes() {
        let nets = sets::hosts(&mut rng, size);
        for hit in [true, false] {
            if !wanted(if hit { HIT } else { MISS }) {
                continue;
            }
            add(hosts(&nets, hit, &mut rng)?);
        }
    }
    if wanted(RULES) {
        rules(&mut rng)?.into_iter().for_each(&mut add);
    }
    if wanted(BOTH) {
        let both: Vec<IpNet> =
            sets::prefixes(&mut rng, 1_000_000, false).into_iter().chain(sets::hosts(&mut rng, 1_000_000)).collect();
        let mut bench = Bench::new(&sets::one_rule(both.clone(), Action::Allow), Pace::LARGE)?;
        kinds::aim(&mut bench, &both, &mut rng);
        add(row(BOTH, both.len(), &mut bench, false, PASS, &[])?);
    }
    if wanted(LEARNING) {
        let nets = sets::prefixes(&mut rng, 1000, false);
        let mut policy = sets::one_rule(nets.clone(), Action::Allow);
        policy.services[0].names.push("*.example.org".parse()?);
        let mut bench = Bench::new(&policy, Pace::SMALL)?;
        kinds::aim(&mut bench, &nets, &mut rng);
        let (times, rate) = learning::time(&mut bench, &policy, "rewrite4", "judge4", &frame(false)?)?;
        for (what, nanoseconds) in [QUIET, LEARNING].into_iter().zip(times) {
            add(figures(what, nets.len(), &bench, [Some(nanoseconds), None, None]));
        }
        println!("{rate:.0} addresses were learned, and as many forgotten, a second");
    }
    Ok(rows)
}

/// Random destinations within random prefixes.
fn prefixes(what: &str, policy: &Policy, nets: &[IpNet], v6: bool, expected: u32, rng: &mut impl Rng) -> Result<Row> {
    let mut bench = Bench::new(policy, Pace::of(nets.len()))?;
    kinds::aim(&mut bench, nets, rng);
    if v6 {
        let mut trie: LpmTrie<MapData, [u32; 4], u32> = bench.take_map("TRIE6")?;
        for net in nets {
            let IpNet::V6(net) = net else { continue };
            let bits = u128::from(net.network());
            let words = [96, 64, 32, 0].map(|shift| ((bits >> shift) as u32).to_be());
            trie.insert(&Key::new(net.prefix_len().into(), words), 1, 0)?;
        }
        return row(what, nets.len(), &mut bench, true, expected, &["lpm6"]);
    }
    let mut trie: LpmTrie<MapData, u32, u32> = bench.take_map("TRIE4")?;
    for net in nets {
        let IpNet::V4(net) = net else { continue };
        trie.insert(&Key::new(net.prefix_len().into(), u32::from(net.network()).to_be()), 1, 0)?;
    }
    row(what, nets.len(), &mut bench, false, expected, &["lpm4"])
}

/// Random hosts, all of them or none known.
fn hosts(nets: &[IpNet], hit: bool, rng: &mut impl Rng) -> Result<Row> {
    let mut bench = Bench::new(&sets::one_rule(nets.to_vec(), Action::Allow), Pace::of(nets.len()))?;
    if hit {
        kinds::aim(&mut bench, nets, rng);
    } else {
        // Neighbours of known hosts: the root says that hosts are near, the table that it is none of them.
        let known: std::collections::HashSet<IpAddr> = nets.iter().map(IpNet::addr).collect();
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
    for net in nets {
        let IpAddr::V4(address) = net.addr() else { continue };
        trie.insert(&Key::new(32, u32::from(address).to_be()), 1, 0)?;
        hash.insert(u32::from(address).to_be(), 1, 0)?;
    }
    let (what, expected) = if hit { (HIT, PASS) } else { (MISS, DROP) };
    row(what, nets.len(), &mut bench, false, expected, &["lpm4", "hash4"])
}

/// Few to many rules over the same prefixes, in turn.
fn rules(rng: &mut impl Rng) -> Result<Vec<Row>> {
    const COUNTS: [usize; 4] = [10, 100, 1_000, 10_000];
    let nets = sets::prefixes(rng, 100_000, false);
    let mut one = |rules| {
        let mut bench = Bench::new(&sets::many_rules(rng, rules, &nets), Pace::LARGE)?;
        kinds::aim(&mut bench, &nets, rng);
        anyhow::Ok(bench)
    };
    let mut benches = COUNTS.into_iter().map(&mut one).collect::<Result<Vec<_>>>()?;
    let times = Bench::time_in_turn(&mut benches, "rewrite4", "judge4", &frame(false)?)?;
    let rows = COUNTS.into_iter().zip(&benches).zip(times);
    Ok(rows.map(|((count, bench), time)| figures(RULES, count, bench, [Some(time), None, None])).collect())
}

fn row(what: &str, size: usize, bench: &mut Bench, v6: bool, expected: u32, others: &[&'static str]) -> Result<Row> {
    let (rewrite, judge) = if v6 { ("rewrite6", "judge6") } else { ("rewrite4", "judge4") };
    let programs: Vec<&'static str> = [judge].into_iter().chain(others.iter().copied()).collect();
    let times = bench.time(rewrite, &programs, &frame(v6)?)?;
    ensure!(times[0].1 == expected, "{what}: the program returned {}, not {expected}", times[0].1);
    let above = |index: usize| times.get(index).map(|(nanoseconds, _)| *nanoseconds);
    Ok(figures(what, size, bench, [0, 1, 2].map(above)))
}

fn figures(what: &str, size: usize, bench: &Bench, nanoseconds: [Option<f64>; 3]) -> Row {
    Row {
        what: what.to_owned(),
        size,
        enforcer: nanoseconds[0].unwrap_or(f64::NAN),
        lpm_trie: nanoseconds[1],
        hash: nanoseconds[2],
        compile_ms: bench.compile.as_millis(),
        load_ms: bench.load.as_millis(),
        map_mb: bench.map_bytes as f64 / 1e6,
    }
}
