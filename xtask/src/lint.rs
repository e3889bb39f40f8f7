//! Formatting, lints, licences, dependencies.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    run::{cargo, cargo_path, run},
    setup::toolchain,
    tools,
};

/// Checks everything; the first failure ends it.
pub fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    // As tests are built, so that what builds eBPF programs is built once.
    cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    ebpf()?;
    for (tool, arguments) in [
        ("cargo-deny", &["deny", "--all-features", "check", "licenses", "bans", "sources"][..]),
        ("cargo-machete", &["machete"]),
    ] {
        tools::cargo_install(tool)?;
        // Inside a `cargo run`, cargo-machete would take its own name for a folder.
        run(Command::new(cargo_path()).args(arguments).env_remove("CARGO_PKG_NAME"))?;
    }
    Ok(())
}

/// clippy for the kernel programs, on the toolchain that builds them.
fn ebpf() -> Result<()> {
    let mut clippy = Command::new("rustup");
    let toolchain = toolchain().context("no toolchain for BPF")?;
    clippy.args(["run", toolchain, "cargo", "clippy"]);
    clippy.args(["--package", "enforcer-ebpf", "--features", "programs", "--target", "bpfel-unknown-none"]);
    clippy.args(["-Z", "build-std=core", "--target-dir", "target/ebpf", "--", "-D", "warnings"]);
    clippy.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
    // cargo hands its own toolchain down; here another one is wanted.
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        clippy.env_remove(variable);
    }
    run(&mut clippy)
}
