//! What a contributor types: `cargo xtask setup | test | demo | bench | fuzz | package | lint`. CI types the same.

mod cross;
mod demo;
mod fuzz;
mod kernels;
mod lint;
mod nextest;
mod package;
mod run;
mod setup;
mod steps;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use run::as_root;
use steps::Steps;

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
    /// Run the tests of each change: unit tests, doctests and the lab
    Test {
        /// Run the second tier, which precedes a release, instead: all parts, or those named
        #[arg(long, value_name = "PART,…", value_enum, value_delimiter = ',', num_args = 0.., require_equals = true,
            conflicts_with = "words")]
        full: Option<Vec<test::Part>>,
        /// Run the lab's core on other kernels instead, in virtual machines: on all that Debian serves, or on those named
        #[arg(long, value_name = "NAME,…", num_args = 0..=1, require_equals = true, default_missing_value = "",
            conflicts_with_all = ["words", "full"])]
        kernels: Option<String>,
        /// Also run what CI adds: lints, one kernel in a virtual machine, and the demo
        #[arg(long, conflicts_with_all = ["words", "full", "kernels"])]
        ci: bool,
        /// Run only tests whose names contain one of these words
        #[arg(value_name = "WORD")]
        words: Vec<String>,
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
    /// Build a Debian package: target/package/enforcer_VERSION_ARCH.deb
    Package {
        /// Architecture: amd64, or arm64 (cross-compiled)
        #[arg(long, value_enum, default_value = "amd64")]
        arch: cross::Architecture,
        /// Version of the package [default: the workspace's]
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        /// Fail if target/release/enforcer is not what cargo builds of the package alone
        #[arg(long, conflicts_with = "arch")]
        built: bool,
    },
    /// Check formatting, lints, licences and dependencies
    Lint,
}

fn main() -> ExitCode {
    remove_own_package_env();
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Removes the variables by which cargo and nextest describe a package to the program that they run. Build scripts that watch
/// them would run again each time that cargo is called by hand and by this program in turn, and cargo-machete would take a
/// package's name for a folder.
fn remove_own_package_env() {
    const PREFIXES: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CFG_"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "OUT_DIR" || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            // SAFETY: no other thread has been started.
            unsafe { std::env::remove_var(&name) };
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    // For tests, setup is a step that is timed.
    if !matches!(command, Command::Test { .. }) {
        setup::install()?;
    }
    match command {
        Command::Setup => setup::install_for_tests().and_then(|()| setup::install_for_kernels()),
        Command::Demo => demo::run(),
        Command::Test { ci: true, .. } => Steps::run(test::ci),
        Command::Test { kernels: Some(names), .. } => Steps::run(|steps| test::on_kernels(steps, &names)),
        Command::Test { full: Some(parts), .. } => Steps::run(|steps| test::second_tier(steps, &parts)),
        Command::Test { words, .. } => Steps::run(|steps| test::first_tier(steps, &words)),
        Command::Bench { arguments } => as_root(&run::build_fast("bench")?, &arguments),
        Command::Fuzz { target: Some(target), seconds, .. } => fuzz::target(&target, seconds),
        Command::Fuzz { packets, seed, .. } => fuzz::packets(packets, seed),
        Command::Package { arch, version, built } => package::debian(arch, version.as_deref(), built).map(drop),
        Command::Lint => lint::check(),
    }
}
