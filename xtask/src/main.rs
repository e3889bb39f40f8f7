//! What a contributor types: `cargo xtask setup | test | demo | bench | fuzz | package | lint`. CI types the same.

mod fuzz;
mod kernels;
mod lint;
mod package;
mod run;
mod setup;
mod tools;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use run::as_root;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, try, test, fuzz and measure enforcer")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need, saying what and why; does nothing where it is all there
    Setup,
    /// Try the product in a lab of three network namespaces
    Demo,
    /// Run every test: unit, property and lab
    Test {
        /// Instead, the lab's core on other kernels, in virtual machines: on all that Debian serves here, or on those that are named
        #[arg(long, value_name = "NAME,…", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "arguments")]
        kernels: Option<String>,
        /// Passed on to the test programs: a part of a test's name, for example
        arguments: Vec<String>,
    },
    /// Measure the data plane beside the kernel's own structures
    Bench {
        /// Passed on to the benchmark; --help tells what there is
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Look for what no test thought of: random packets through the kernel's programs, or random input for a parser
    Fuzz {
        /// Packets in all, over every hook, against the oracle
        #[arg(long, default_value_t = 10_000_000)]
        packets: u64,
        /// Seed of the first policy, to see a difference again
        #[arg(long)]
        seed: Option<u64>,
        /// Instead, a target of tests/fuzz: frame, policy, catalog or dns
        #[arg(long, conflicts_with_all = ["packets", "seed"])]
        target: Option<String>,
        /// How long
        #[arg(long, default_value_t = 600, requires = "target")]
        seconds: u64,
    },
    /// Make a Debian package: target/package/enforcer_VERSION_amd64.deb
    Package {
        /// Its version, if not the workspace's
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        /// Of what is built already
        #[arg(long)]
        built: bool,
    },
    /// Check formatting, lints, licences and dependencies
    Lint,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    setup::install()?;
    match command {
        Command::Setup => setup::install_for_tests().and_then(|()| setup::install_for_kernels()),
        Command::Demo => {
            run::build()?;
            as_root(&run::built("demo")?, &[])
        }
        Command::Test { kernels: Some(names), .. } => kernels::test(&names),
        Command::Test { arguments, .. } => test(&arguments),
        Command::Bench { arguments } => {
            run::build()?;
            as_root(&run::built("bench")?, &arguments)
        }
        Command::Fuzz { target: Some(target), seconds, .. } => fuzz::target(&target, seconds),
        Command::Fuzz { packets, seed, .. } => fuzz::packets(packets, seed),
        Command::Package { version, built } => package::debian(version.as_deref(), built),
        Command::Lint => lint::check(),
    }
}

/// All tests in one call of cargo. Those of the lab need root and measure time, so they run one by one, in a release build as the
/// millions of packets of the differential test want it.
fn test(arguments: &[String]) -> Result<()> {
    setup::install_for_tests()?;
    run::build()?;
    let mut line: Vec<&str> = vec!["test", "--release", "--workspace", "--no-fail-fast", "--", "--test-threads=1"];
    line.extend(arguments.iter().map(String::as_str));
    let line: Vec<String> = line.into_iter().map(str::to_owned).collect();
    as_root(&run::cargo_path(), &line)
}
