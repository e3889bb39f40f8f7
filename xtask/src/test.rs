//! The tests in two tiers: those of each change, and those before a release.

use std::{process::Command, thread};

use anyhow::{Result, bail};

use crate::{
    kernels, lint,
    nextest::{self, Needs},
    run::{self, cargo_path, lines},
    setup,
    steps::{Counts, Steps},
};

/// The kernel of the first tier: the oldest that is supported, in the flavour of virtual machines.
const KERNEL: &str = "6.1-cloud";

/// Parts of the second tier, with the tests that each runs; `kernels` runs in guests.
const PARTS: [(&str, &str); 5] = [
    ("kernels", ""),
    ("browsers", "test(/^browsers::/)"),
    (
        "peers",
        "test(/^(api|dns_encrypted|exports|exports_nftables|exports_proxies|exports_squid|names_clients|proxies)::/)",
    ),
    ("faults", "test(/^(clsact|draining|fail_closed|failures|lifecycle|swap)::/)"),
    ("package", "test(/^package::/)"),
];

/// Installs what tests need, and builds the product as it is shipped and the tests.
fn build(steps: &mut Steps) -> Result<()> {
    set_up(steps)?;
    // Side by side: each waits at times for one of its crates.
    steps.prepare("build the product and the tests", || {
        thread::scope(|scope| {
            let product = scope.spawn(run::build_product);
            nextest::build()?;
            product.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

fn set_up(steps: &mut Steps) -> Result<()> {
    steps.prepare("set up", || setup::install().and_then(|()| setup::install_for_tests()))
}

/// Runs the first tier but for the guest: unit tests, doctests and the lab. With words, only tests whose names contain one.
pub fn first(steps: &mut Steps, words: &[String]) -> Result<()> {
    build(steps)?;
    steps.tests("unit tests", |counts| nextest::test(Needs::Nothing, words, counts));
    if words.is_empty() {
        steps.tests("doctests", doctests);
    }
    steps.tests("lab tests", |counts| nextest::test(Needs::Root, words, counts));
    Ok(())
}

/// Runs what CI runs: lints, the first tier, one kernel in a guest, and the demo.
pub fn ci(steps: &mut Steps) -> Result<()> {
    set_up(steps)?;
    steps.check("lint", lint::check);
    first(steps, &[])?;
    kernels(steps, KERNEL)?;
    steps.check("demo", crate::demo);
    Ok(())
}

/// Runs the lab's core on named kernels, or on all that are served.
pub fn kernels(steps: &mut Steps, names: &str) -> Result<()> {
    set_up(steps)?;
    steps.tests("kernels", |counts| kernels::test(names, counts));
    Ok(())
}

/// Runs parts of the second tier, or all of them. With words, only tests whose names contain one.
pub fn full(steps: &mut Steps, parts: &str, words: &[String]) -> Result<()> {
    let named: Vec<&str> = parts.split(',').filter(|part| !part.is_empty()).collect();
    let known = PARTS.map(|(part, _)| part);
    if let Some(unknown) = named.iter().find(|part| !known.contains(part)) {
        bail!("there is no part {unknown:?}, only {}", known.join(", "));
    }
    build(steps)?;
    for (part, filter) in PARTS.into_iter().filter(|(part, _)| named.is_empty() || named.contains(part)) {
        if part == "browsers" {
            steps.prepare("set up browsers", setup::install_for_browsers)?;
        }
        match part {
            "kernels" => steps.tests(part, kernels::test_supported),
            _ => steps.tests(part, |counts| nextest::test(Needs::Full(filter), words, counts)),
        }
        if part == "package" && words.is_empty() {
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

/// Returns the counts of a line in which a test program of Rust's own harness sums up: `test result: ok. 3 passed; 0 failed; …`.
fn libtest(line: &str) -> Option<Counts> {
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
