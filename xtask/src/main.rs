//! What a contributor types: `cargo xtask setup | test | demo | bench | fuzz | package | lint`. CI types the same.

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
        /// Run the second tier instead: all parts, or those named (kernels, browsers, peers, faults, package)
        #[arg(long, value_name = "PART,…", num_args = 0..=1, require_equals = true, default_missing_value = "")]
        full: Option<String>,
        /// Run the lab's core on other kernels instead, in virtual machines: on all that Debian serves, or on those named
        #[arg(long, value_name = "NAME,…", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with_all = ["words", "full"])]
        kernels: Option<String>,
        /// Run what CI runs: also lints, one kernel in a virtual machine, and the demo
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
        arch: kernels::Architecture,
        /// Version of the package [default: the workspace's]
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
        /// Package the existing binary; refuse one that cargo would build otherwise
        #[arg(long)]
        built: bool,
    },
    /// Check formatting, lints, licences and dependencies
    Lint,
}

fn main() -> ExitCode {
    forget_own_package();
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Removes what `cargo run` says about this package from the environment. Build scripts that watch such variables would run again, and what depends on them
/// would be built again, each time that cargo is called by hand and by this program in turn.
fn forget_own_package() {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    let is_own = |name: &std::ffi::OsString| {
        name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    };
    for name in names.iter().filter(|name| is_own(name)) {
        // SAFETY: no other thread has been started.
        unsafe { std::env::remove_var(name) };
    }
}

fn dispatch(command: Command) -> Result<()> {
    // A run of tests counts it as a step.
    if !matches!(command, Command::Test { .. }) {
        setup::install()?;
    }
    match command {
        Command::Setup => setup::install_for_tests().and_then(|()| setup::install_for_kernels()),
        Command::Demo => demo(),
        Command::Test { ci: true, .. } => Steps::run(test::ci),
        Command::Test { kernels: Some(names), .. } => Steps::run(|steps| test::kernels(steps, &names)),
        Command::Test { full: Some(parts), words, .. } => Steps::run(|steps| test::full(steps, &parts, &words)),
        Command::Test { words, .. } => Steps::run(|steps| test::first(steps, &words)),
        Command::Bench { arguments } => as_root(&run::build_fast("bench")?, &arguments),
        Command::Fuzz { target: Some(target), seconds, .. } => fuzz::target(&target, seconds),
        Command::Fuzz { packets, seed, .. } => fuzz::packets(packets, seed),
        Command::Package { arch, version, built } => package::debian(arch, version.as_deref(), built).map(drop),
        Command::Lint => lint::check(),
    }
}

/// Builds the product and shows it in a lab.
fn demo() -> Result<()> {
    run::build_product()?;
    run::build_tools()?;
    as_root(&run::tool("demo")?, &[])
}
