//! Running other programs.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The repository's root.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs a program with its output shown.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ended(command, status)
}

fn ended(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!("{} {} ended with {status}", command.get_program().display(), arguments.join(" "));
    }
    Ok(())
}

/// Runs a program, and calls `each` with each line of its standard output as it comes.
pub fn lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        each(&line?);
    }
    ended(command, child.wait()?)
}

/// Runs cargo, the one that runs this program.
pub fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new(cargo_path()).args(arguments))
}

/// Cargo's arguments that build the product: alone, so that no other package's features get into its dependencies.
pub const PRODUCT: [&str; 5] = ["build", "--release", "--package", "enforcer", "--bins"];

/// Builds the product as it is shipped.
pub fn build_product() -> Result<()> {
    cargo(&PRODUCT)
}

/// Builds the tests' programs in the profile of tests. `--examples` makes cargo choose the features of dependencies that tests
/// have, although there are no examples; otherwise most dependencies would be built twice.
pub fn build_tools() -> Result<()> {
    cargo(&["build", "--workspace", "--bins", "--examples"])
}

/// Builds a program of the tests for speed, and returns its path.
pub fn build_fast(program: &str) -> Result<String> {
    cargo(&["build", "--release", "--package", "enforcer-tests", "--bin", program])?;
    built(program)
}

/// Where cargo is.
pub fn cargo_path() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Where cargo puts a program of this workspace that is built for release.
pub fn built(program: &str) -> Result<String> {
    Ok(format!("{}/release/{program}", target_directory()?))
}

/// Returns the path of a program that is built in the profile of tests.
pub fn tool(program: &str) -> Result<String> {
    Ok(format!("{}/debug/{program}", target_directory()?))
}

/// Where cargo puts what it makes of this workspace.
pub fn target_directory() -> Result<String> {
    let output = Command::new(cargo_path()).args(["metadata", "--no-deps", "--format-version=1"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    // One field of it, in a path without quotes: no reason for a parser.
    let (_, rest) = text.split_once("\"target_directory\":\"").context("cargo metadata names no target directory")?;
    let (folder, _) = rest.split_once('"').context("cargo metadata is cut off")?;
    Ok(folder.to_owned())
}

/// Runs a program as root: with sudo, if this is not root.
pub fn as_root(program: &str, arguments: &[String]) -> Result<()> {
    if is_root() {
        return run(Command::new(program).args(arguments));
    }
    if !has("sudo") {
        bail!("the lab makes network namespaces and loads eBPF programs: run this as root, or install sudo");
    }
    // The toolchains are this user's.
    let keep = format!("PATH={}", std::env::var("PATH").unwrap_or_default());
    run(Command::new("sudo").args(["-E", "env", &keep, program]).args(arguments))
}

/// Whether this is root.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Whether a program is on the path.
pub fn has(program: &str) -> bool {
    find(program).is_some()
}

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
