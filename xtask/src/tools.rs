//! Programs that tests and lints call. What is not to be installed on the system lies in cargo's target directory.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    run::{cargo_path, has, run, target_directory},
    setup::{apt, apt_get},
};

/// The fuzzer of HTTP APIs, from PyPI.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Installs what is missing.
pub fn install() -> Result<()> {
    let folder = Path::new(&target_directory()?).join("tools");
    fs::create_dir_all(&folder)?;
    promtool(&folder)?;
    schemathesis(&folder)?;
    CARGO.iter().try_for_each(|(tool, _)| cargo_install(tool))
}

/// Subcommands of cargo, with the versions that are installed where there is none.
const CARGO: [(&str, &str); 4] =
    [("cargo-nextest", "0.9.143"), ("cargo-deny", "0.20.2"), ("cargo-machete", "0.9.2"), ("cargo-deb", "3.8.0")];

/// Installs a subcommand of cargo, if it is not there. Without optimisation, it is built sooner; it runs for seconds.
pub fn cargo_install(tool: &str) -> Result<()> {
    if has(tool) {
        return Ok(());
    }
    println!("setup: building {tool}");
    let mut install = Command::new(cargo_path());
    install.args(["install", "--quiet", "--locked", "--debug", tool]).env("CARGO_PROFILE_DEV_DEBUG", "0");
    if let Some((_, version)) = CARGO.iter().find(|(name, _)| *name == tool) {
        install.args(["--version", version]);
    }
    // Dependencies that several of them have are built once.
    run(install.env("CARGO_TARGET_DIR", Path::new(&target_directory()?).join("tools/build")))
}

/// Prometheus' own judge of metrics and rules. It comes out of Debian's package, which is not installed: that would bring a server, and start it.
fn promtool(folder: &Path) -> Result<()> {
    let program = folder.join("promtool");
    if program.is_file() {
        return Ok(());
    }
    if !has("apt-get") || !has("dpkg-deb") {
        bail!("please put Prometheus' promtool at {}: tests judge metrics and alert rules by it", program.display());
    }
    println!("setup: taking promtool out of the package prometheus (tests judge metrics and alert rules by it)");
    let unpacked = folder.join("prometheus");
    let _ = fs::remove_dir_all(&unpacked);
    fs::create_dir_all(&unpacked)?;
    apt_get(&["update", "-qq"])?;
    run(Command::new("apt-get").args(["download", "-qq", "prometheus"]).current_dir(&unpacked))?;
    let package = fs::read_dir(&unpacked)?.next().context("apt-get has downloaded nothing")??.path();
    run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unpacked))?;
    fs::rename(unpacked.join("usr/bin/promtool"), &program)?;
    Ok(fs::remove_dir_all(&unpacked)?)
}

/// In an environment of its own; a mark says that it is whole.
fn schemathesis(folder: &Path) -> Result<()> {
    let mark = folder.join("schemathesis.version");
    if fs::read_to_string(&mark).is_ok_and(|version| version == SCHEMATHESIS) {
        return Ok(());
    }
    let makes_environments = || {
        let tried = Command::new("python3").args(["-c", "import ensurepip, venv"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    if !makes_environments() {
        apt(&["python3-venv"], "schemathesis, which tests send requests with, is a Python program")?;
    }
    println!("setup: installing {SCHEMATHESIS} in {} (a test sends requests to the API with it)", folder.display());
    let environment = folder.join("schemathesis");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", SCHEMATHESIS]))?;
    Ok(fs::write(&mark, SCHEMATHESIS)?)
}
