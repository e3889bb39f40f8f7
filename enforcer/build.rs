//! Builds the eBPF programs, to be embedded in the binary.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

/// Toolchains that can build `core` for BPF, best first: a nightly with its sources, or Debian's own compiler, linked under this name.
const NIGHTLY: &str = "nightly";
const DEBIAN: &str = "debian";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let toolchain = if has_sources(NIGHTLY) {
        Toolchain::Nightly
    } else if has_sources(DEBIAN) {
        // SAFETY: the build script has one thread. Debian's compiler is a stable one; building `core` is not a stable feature.
        unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
        Toolchain::Custom(DEBIAN)
    } else {
        bail!("no toolchain can build the eBPF programs here: run `cargo xtask setup`");
    };
    let programs = Package {
        name: "enforcer-ebpf",
        root_dir: "../enforcer-ebpf",
        no_default_features: false,
        features: &["programs"],
    };
    build_ebpf([programs], toolchain)
}

/// Whether a rustup toolchain has the standard library's sources.
fn has_sources(toolchain: &str) -> bool {
    let output = Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]).output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
    })
}
