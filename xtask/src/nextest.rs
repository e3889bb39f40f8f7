//! Running tests by cargo-nextest, each in a process of its own. `.config/nextest.toml` has their time limits and groups.

use std::{fs, io::ErrorKind, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    run::{ROOT, as_root, cargo_path, is_root, run, tool},
    steps::Counts,
};

/// Cargo's arguments by which nextest builds every test. All runs select the same packages, so that dependencies are
/// built once.
const ALL: [&str; 3] = ["nextest", "run", "--workspace"];

/// Tests without privilege: unit tests, property tests and the seeds of the fuzz targets.
const UNIT: &str = "not package(enforcer-tests) or kind(lib)";

/// Tests that need root: all others of the first tier.
const LAB: &str = "package(enforcer-tests) and not kind(lib)";

/// The tests of a run.
#[derive(Clone, Copy)]
pub enum Selection {
    /// Unit and property tests, which run without any privilege.
    Unit,
    /// The lab, the comparison with the oracle and the benchmark's own tests, which run as root.
    Lab,
    /// Lab tests of the second tier that a filter of nextest selects, with all their rounds.
    Full(&'static str),
}

/// Builds every test.
pub fn build() -> Result<()> {
    run(Command::new(cargo_path()).args(ALL).arg("--no-run"))
}

/// Runs the selected tests whose names contain one of the given words (all, if there are none), and counts them.
///
/// # Errors
/// If a test fails or cannot be run, or if no test is selected although no word is given. The counts are right in each
/// case.
pub fn test(selection: Selection, words: &[String], counts: &mut Counts) -> Result<()> {
    let report = Path::new(ROOT).join("target/nextest/default/junit.xml");
    // A run as root must not be the first to make the folder: a later run without privilege writes to it.
    fs::create_dir_all(report.parent().context("a path without a folder")?)?;
    if let Err(error) = fs::remove_file(&report)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("cannot remove {}", report.display()));
    }
    let filter = match selection {
        Selection::Unit => UNIT,
        Selection::Lab => LAB,
        Selection::Full(filter) => filter,
    };
    let mut arguments: Vec<&str> = ALL.into();
    arguments.extend(["--cargo-quiet", "-E", filter]);
    if let Selection::Full(_) = selection {
        arguments.push("--ignore-default-filter");
    }
    if !words.is_empty() {
        arguments.push("--no-tests=pass");
    }
    arguments.extend(words.iter().map(String::as_str));
    let result = match selection {
        Selection::Unit => run(without_privileges(Command::new(cargo_path()).args(arguments))?),
        Selection::Lab => lab(false, &arguments),
        Selection::Full(_) => lab(true, &arguments),
    };
    let counted = match fs::read_to_string(&report) {
        Ok(text) => read(&text).with_context(|| format!("{} is not a report of nextest", report.display())),
        // Where words select no test, there is no report.
        Err(error) if error.kind() == ErrorKind::NotFound && !words.is_empty() => Ok(Counts::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", report.display())),
    };
    if let Ok(here) = counted {
        *counts += here;
    }
    result.and(counted.map(drop))
}

/// Runs tests as root, then removes the labs of tests that were ended at their time limit.
fn lab(all_rounds: bool, arguments: &[&str]) -> Result<()> {
    // One call of sudo for both: its permission may end while the tests run.
    const SCRIPT: &str = r#"cleanup=$1; shift; "$@"; status=$?; "$cleanup" && exit $status"#;
    let variable = if all_rounds { "ENFORCER_FULL=1" } else { "ENFORCER_FULL=" };
    let (cleanup, cargo) = (tool("cleanup")?, cargo_path());
    let call = ["-c", SCRIPT, "sh", &cleanup, "env", variable, &cargo];
    let line: Vec<String> = call.iter().chain(arguments).map(|&word| word.to_owned()).collect();
    as_root("sh", &line)
}

/// Makes cargo run test programs without any capability where it is root. Files stay accessible to their owner.
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
