//! Nanoseconds per packet, memory and loading times, beside the kernel's own structures in the same run; and packets a second through a gateway, beside what
//! others filter them with.

use std::{collections::BTreeSet, fs::File, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use enforcer_tests::bench::{control, end_to_end, machine::Machine, packets, programs, targets};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Time the data plane
#[derive(Parser)]
struct Arguments {
    /// Sizes at which kinds of packets, prefixes and hosts are measured, each up to a million
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 100_000, 1_000_000],
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sizes: Vec<u32>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only what has this in its name
    #[arg(long, default_value = "", value_name = "TEXT", long_help = only_help())]
    only: String,
    /// Write the figures as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures into a folder, too, as SVG
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

fn names() -> impl Iterator<Item = &'static str> {
    [end_to_end::NAME, control::NAME, programs::NAME].into_iter().chain(packets::names())
}

fn only_help() -> String {
    let names: Vec<String> = names().map(|name| format!("\"{name}\"")).collect();
    format!("Only what has this in its name: {}", names.join(", "))
}

/// Everything that was measured, and what tells how far it carries.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    machine: Machine,
    plan: packets::Plan,
    programs: Vec<programs::Size>,
    per_packet: packets::Packets,
    end_to_end: Vec<end_to_end::Row>,
    control: Vec<control::Figure>,
    targets: Vec<targets::Target>,
}

fn main() -> Result<()> {
    let Arguments { sizes, seed, only, json, svg } = Arguments::parse();
    let sizes: BTreeSet<usize> = sizes.into_iter().map(|size| size as usize).collect();
    if !names().any(|name| name.contains(&only)) {
        bail!("no measurement has {only:?} in its name; try `--only prefixes`, or --help");
    }
    // Minutes before there is anything to write; what an earlier run wrote stays until then.
    if let Some(path) = &json {
        let file = File::options().create(true).append(true).open(path);
        file.with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(folder) = &svg {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let machine = Machine::here()?;
    println!("{machine}");
    let random = || ChaCha8Rng::seed_from_u64(seed);
    let (mut end_to_end, mut control, mut programs) = (Vec::new(), Vec::new(), Vec::new());
    if end_to_end::NAME.contains(&only) {
        end_to_end = end_to_end::measure(end_to_end::PLAN, &mut random())?;
        end_to_end::print(&end_to_end);
    }
    if control::NAME.contains(&only) {
        control = control::measure(&control::PLAN, &mut random())?;
        control::print(&control);
    }
    if programs::NAME.contains(&only) {
        programs = programs::sizes()?;
        programs::print(&programs);
    }
    let plan = packets::Plan { sizes: sizes.into_iter().collect(), seed, only };
    let per_packet = packets::measure(&plan)?;
    let targets = targets::of(&per_packet, &end_to_end);
    if !targets.is_empty() {
        targets::print(&targets);
    }
    let version = env!("CARGO_PKG_VERSION");
    let report = Report { version, machine, plan, programs, per_packet, end_to_end, control, targets };
    if let Some(path) = &json {
        let written = std::fs::write(path, serde_json::to_vec_pretty(&report)?);
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(folder) = &svg {
        end_to_end::plot(folder, &report.end_to_end, &report.machine)?;
        packets::plot(folder, &report.per_packet, &report.machine)?;
    }
    Ok(())
}
