//! The differential test at any length: `cargo xtask fuzz --packets N`.

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use enforcer_tests::differential;

#[derive(Parser)]
struct Cli {
    /// Packets in all, over every hook
    #[arg(long, default_value_t = 10_000_000)]
    packets: u64,
    /// Seed of the first policy; drawn at random without it
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<()> {
    let Cli { packets, seed } = Cli::parse();
    let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("{packets} packets from seed {seed} on");
    let start = Instant::now();
    let tally = differential::run(packets, seed)?;
    let rate = tally.packets as f64 / start.elapsed().as_secs_f64();
    println!("no difference: {} packets under {} policies, {rate:.0} a second", tally.packets, tally.policies);
    for (name, count) in &tally.counted {
        println!("  {name:<14} {count}");
    }
    Ok(())
}
