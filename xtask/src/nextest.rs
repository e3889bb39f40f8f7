//! Running tests by cargo-nextest, each in a process of its own. `.config/nextest.toml` has their time limits and groups.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    run::{as_root, cargo_path, is_root, run, target_directory, tool},
    steps::Counts,
    tools,
};

/// Cargo's arguments by which nextest builds every test. The selection is the same for all runs, so that dependencies are built once.
const ALL: [&str; 3] = ["nextest", "run", "--workspace"];

/// Tests by what they need.
#[derive(Clone, Copy)]
pub enum Needs {
    /// No privilege: unit and property tests.
    Nothing,
    /// Root: the lab, the comparison with the oracle and the benchmark's own tests.
    Root,
    /// Root, and time: the tests of the second tier that a filter selects, with all their rounds.
    Full(&'static str),
}

/// Installs cargo-nextest if it is missing, and builds every test.
pub fn build() -> Result<()> {
    tools::cargo_install("cargo-nextest")?;
    run(Command::new(cargo_path()).args(ALL).args(["--no-run", "--cargo-quiet"]))
}

/// Runs the built tests whose names contain one of the given words (all, if there are none), and counts them.
///
/// # Errors
/// If a test fails or cannot be run; the counts are right then, too.
pub fn test(needs: Needs, words: &[String], counts: &mut Counts) -> Result<()> {
    let report = Path::new(&target_directory()?).join("nextest/default/junit.xml");
    let _ = fs::remove_file(&report);
    let mut arguments: Vec<String> = ALL.map(str::to_owned).into();
    arguments.extend(["--cargo-quiet", "--no-tests=pass", "-E"].map(str::to_owned));
    match needs {
        Needs::Nothing => arguments.push("not package(enforcer-tests)".to_owned()),
        Needs::Root => arguments.push("package(enforcer-tests)".to_owned()),
        Needs::Full(filter) => arguments.extend([filter, "--ignore-default-filter"].map(str::to_owned)),
    }
    arguments.extend_from_slice(words);
    let result = if let Needs::Nothing = needs {
        run(without_privileges(Command::new(cargo_path()).args(&arguments))?)
    } else {
        arguments.insert(0, cargo_path());
        if let Needs::Full(_) = needs {
            arguments.insert(0, "ENFORCER_FULL=1".to_owned());
        }
        let tests = as_root("env", &arguments);
        // A test that was ended leaves its lab.
        let cleanup = as_root(&tool("cleanup")?, &[]);
        tests.and(cleanup)
    };
    // Without a test, there is no report.
    if let Ok(report) = fs::read_to_string(&report) {
        *counts += read(&report).with_context(|| format!("{report} is not a report of nextest"))?;
    }
    result
}

/// Lets cargo run test programs without any capability where it is root. Files stay accessible by their owner.
pub fn without_privileges(cargo: &mut Command) -> Result<&mut Command> {
    if is_root() {
        let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
        let text = String::from_utf8(output.stdout)?;
        let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc reports no host")?;
        let runner = format!("CARGO_TARGET_{}_RUNNER", host.replace('-', "_").to_uppercase());
        cargo.env(runner, "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs");
    }
    Ok(cargo)
}

/// Returns the counts of a JUnit report: the attributes of its root element.
fn read(report: &str) -> Option<Counts> {
    let (_, rest) = report.split_once("<testsuites ")?;
    let (attributes, _) = rest.split_once('>')?;
    let number = |name: &str| -> Option<u32> {
        let (_, rest) = attributes.split_once(&format!(" {name}=\""))?;
        rest.split_once('"')?.0.parse().ok()
    };
    let failed = number("failures")? + number("errors")?;
    Some(Counts { passed: number("tests")?.checked_sub(failed)?, failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_errors_of_a_report_are_failed_tests() {
        let report = "<?xml version=\"1.0\"?>\n<testsuites name=\"nextest-run\" tests=\"12\" failures=\"2\" errors=\"1\" uuid=\"x\">\n\
                      <testsuite name=\"a\" tests=\"1\" failures=\"0\" errors=\"0\">";
        assert_eq!(read(report), Some(Counts { passed: 9, failed: 3 }));
        assert_eq!(read("<testsuites tests=\"1\">"), None);
    }
}
