//! Builds the eBPF programs, to be embedded in the binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};

/// Debian's own compiler, linked under this name: a toolchain that can build `core` for BPF, as a nightly with its sources is.
const DEBIAN: &str = "debian";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let toolchain = if has_sources(DEBIAN) {
        // SAFETY: the build script has one thread. Debian's compiler is a stable one; building `core` is not a stable feature.
        unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "1") };
        Toolchain::Custom(DEBIAN)
    } else if has_sources("nightly") {
        Toolchain::Nightly
    } else {
        bail!("no toolchain can build the eBPF programs here: run `cargo xtask setup`");
    };
    let linker = linker()?;
    // SAFETY: as above.
    unsafe { std::env::set_var("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker) };
    let programs = Package {
        name: "enforcer-ebpf",
        root_dir: "../enforcer-ebpf",
        no_default_features: false,
        features: &["programs"],
    };
    build_ebpf([programs], toolchain)
}

/// A linker that generates code for the instruction set of kernel 5.1 (v3: 32-bit arithmetic and jumps). rustc asks for "generic", the one of
/// 2014, whose code is a tenth larger; its own option for that is out of reach behind the flags that aya-build sets.
fn linker() -> Result<PathBuf> {
    const SCRIPT: &str = r#"#!/bin/sh
left=$#
while [ "$left" -gt 0 ]; do
    case $1 in generic) set -- "$@" v3 ;; *) set -- "$@" "$1" ;; esac
    shift
    left=$((left - 1))
done
exec bpf-linker "$@"
"#;
    let path = PathBuf::from(std::env::var("OUT_DIR")?).join("linker.sh");
    fs::write(&path, SCRIPT)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Whether a rustup toolchain has the standard library's sources.
fn has_sources(toolchain: &str) -> bool {
    let output = Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]).output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
    })
}
