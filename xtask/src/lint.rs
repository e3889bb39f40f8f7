//! Formatting, lints, licences, dependencies.

use std::process::Command;

use anyhow::{Context as _, Result};

use enforcer_ebpf_build::toolchain;

use crate::{
    run::{cargo, cargo_path, run},
    tools,
};

/// Checks everything; the first failure ends it.
pub fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    // In the profile of tests, so that the eBPF programs are built once for both.
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    ebpf()?;
    for (tool, arguments) in [
        ("cargo-deny", &["deny", "--all-features", "check", "licenses", "bans", "sources"][..]),
        ("cargo-machete", &["machete"]),
    ] {
        tools::cargo_install(tool)?;
        run(Command::new(cargo_path()).args(arguments))?;
    }
    Ok(())
}

/// clippy for the kernel programs, on the toolchain that builds them.
fn ebpf() -> Result<()> {
    let mut clippy = Command::new("rustup");
    let toolchain = toolchain().context("no toolchain for BPF")?;
    clippy.args(["run", toolchain, "cargo", "clippy"]);
    clippy.args(["--package", "enforcer-ebpf", "--package", "enforcer-tests-ebpf"]);
    clippy.args([
        "--features",
        "enforcer-ebpf/programs,enforcer-tests-ebpf/programs",
        "--target",
        "bpfel-unknown-none",
    ]);
    clippy.args(["-Z", "build-std=core", "--target-dir", "target/ebpf", "--", "-D", "warnings"]);
    clippy.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
    // cargo hands its own toolchain down; here another one is wanted.
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        clippy.env_remove(variable);
    }
    run(&mut clippy)
}
