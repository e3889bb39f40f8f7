//! Running other programs.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

/// The repository's root.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs a program with its output shown.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!("{} {} ended with {status}", command.get_program().display(), arguments.join(" "));
    }
    Ok(())
}

/// Runs cargo, the one that runs this program.
pub fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new(cargo_path()).args(arguments))
}

/// What cargo builds the workspace's programs by. `--examples`, of which there are none, is for the features that tests want of dependencies: without it,
/// whoever builds tests, too, builds nearly everything twice.
pub const BUILD: [&str; 5] = ["build", "--release", "--workspace", "--bins", "--examples"];

/// Builds the workspace's programs.
pub fn build() -> Result<()> {
    cargo(&BUILD)
}

/// Where cargo is.
pub fn cargo_path() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Where cargo puts a program of this workspace that is built for release.
pub fn built(program: &str) -> Result<String> {
    Ok(format!("{}/release/{program}", target_directory()?))
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
        bail!("{program} makes network namespaces and loads eBPF programs: run this as root, or install sudo");
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
