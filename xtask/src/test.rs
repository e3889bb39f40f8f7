//! The tests in two tiers: those of each change, and those before a release.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    demo, kernels, lint,
    nextest::{self, Selection},
    run::{self, cargo_path, lines},
    setup,
    steps::{Counts, Steps},
};

/// The kernel of the first tier: the oldest that is supported, in the flavour of virtual machines.
const KERNEL: &str = "6.1-cloud";

/// A part of the second tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The lab's core on one kernel of each series that Debian serves
    Kernels,
    /// Chromium as a client
    Browsers,
    /// Other programs: resolvers, proxies, firewalls, an API fuzzer
    Peers,
    /// Crashes, hangs, full disks and restarts, with all rounds
    Faults,
    /// The Debian package, on this machine and on an emulated arm64
    Package,
}

impl Part {
    /// Returns the tests that the part runs, as a filter of nextest; `None` if they run in guests.
    const fn filter(self) -> Option<&'static str> {
        match self {
            Self::Kernels => None,
            Self::Browsers => Some("package(enforcer-tests) and test(/^browsers::/)"),
            Self::Peers => Some(
                "package(enforcer-tests) and test(/^(api|dns_encrypted|exports|exports_nftables|exports_proxies\
                 |exports_squid|names_clients|proxies)::/)",
            ),
            Self::Faults => {
                Some("package(enforcer-tests) and test(/^(clsact|draining|fail_closed|failures|lifecycle|swap)::/)")
            }
            Self::Package => Some("package(enforcer-tests) and test(/^package::/)"),
        }
    }
}

fn set_up(steps: &mut Steps) -> Result<()> {
    steps.prepare("set up", || setup::install().and_then(|()| setup::install_for_tests()))
}

/// Builds the product as it is shipped, and the tests.
fn build(steps: &mut Steps) -> Result<()> {
    steps.prepare("build the product", run::build_product)?;
    steps.prepare("build the tests", nextest::build)
}

/// Runs unit tests, doctests and the lab. With words, only tests whose names contain one of them.
pub fn first_tier(steps: &mut Steps, words: &[String]) -> Result<()> {
    set_up(steps)?;
    build_and_test(steps, words)
}

fn build_and_test(steps: &mut Steps, words: &[String]) -> Result<()> {
    build(steps)?;
    steps.tests("unit tests", |counts| nextest::test(Selection::Unit, words, counts));
    if words.is_empty() {
        steps.tests("doctests", doctests);
    }
    steps.tests("lab tests", |counts| nextest::test(Selection::Lab, words, counts));
    Ok(())
}

/// Runs what CI runs: lints, the first tier, one kernel in a guest, and the demo.
pub fn ci(steps: &mut Steps) -> Result<()> {
    set_up(steps)?;
    steps.check("lint", lint::check);
    build_and_test(steps, &[])?;
    steps.tests(&format!("kernel {KERNEL}"), |counts| kernels::test_first(KERNEL, counts));
    steps.check("demo", demo::run);
    Ok(())
}

/// Runs the lab's core on named kernels, or on all that are served.
pub fn on_kernels(steps: &mut Steps, names: &str) -> Result<()> {
    set_up(steps)?;
    steps.tests("kernels", |counts| kernels::test(names, counts));
    Ok(())
}

/// Runs parts of the second tier, or all of them if none is named.
pub fn second_tier(steps: &mut Steps, named: &[Part]) -> Result<()> {
    set_up(steps)?;
    build(steps)?;
    for part in Part::value_variants().iter().filter(|part| named.is_empty() || named.contains(part)) {
        let name = format!("{part:?}").to_lowercase();
        let Some(filter) = part.filter() else {
            steps.tests(&name, kernels::test_series);
            continue;
        };
        steps.tests(&name, |counts| {
            if *part == Part::Browsers {
                setup::install_for_browsers()?;
            }
            nextest::test(Selection::Full(filter), &[], counts)
        });
        if *part == Part::Package {
            steps.tests("package for arm64", kernels::test_package);
        }
    }
    Ok(())
}

/// Runs the examples in the documentation, as cargo reports them.
fn doctests(counts: &mut Counts) -> Result<()> {
    let mut cargo = Command::new(cargo_path());
    lines(nextest::without_privileges(cargo.args(["test", "--workspace", "--doc", "--quiet"]))?, |line| {
        println!("{line}");
        *counts += libtest(line).unwrap_or_default();
    })
}

/// Returns the counts of a line in which a test program of Rust's own harness sums up: `test result: ok. 3 passed; 0
/// failed; …`.
pub fn libtest(line: &str) -> Option<Counts> {
    let (_, rest) = line.split_once("test result: ")?.1.split_once(". ")?;
    let number = |unit: &str| rest.split("; ").find_map(|part| part.strip_suffix(unit)?.trim().parse().ok());
    Some(Counts { passed: number(" passed")?, failed: number(" failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_test_program_is_read() {
        let line = "test result: FAILED. 11 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(libtest(line), Some(Counts { passed: 11, failed: 2 }));
        assert_eq!(libtest("test names::x ... ok"), None);
    }
}
