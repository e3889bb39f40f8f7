//! Builds eBPF programs from build scripts, with the toolchain that `cargo xtask setup` installs.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain, build_ebpf};

/// The rustup name under which `cargo xtask setup` links Debian's compiler.
pub const DEBIAN: &str = "debian";
/// The rustup toolchain that is used where Debian's compiler is not available.
pub const NIGHTLY: &str = "nightly";

/// Builds binaries of a workspace package, with its feature `programs`, into the build script's `OUT_DIR`.
///
/// `folder` is the package's folder, relative to the build script's. Programs are always built for release, so that all of cargo's profiles share one
/// build of them, below cargo's target directory.
///
/// # Errors
/// If no toolchain can build for BPF here, or if the package does not compile.
pub fn build(package: &str, folder: &str, binaries: &[&str]) -> Result<()> {
    let name = toolchain().context("no toolchain here can build eBPF programs: run `cargo xtask setup`")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // `<target>/<profile>/build/<package>/out`
    let shared = out.ancestors().nth(4).context("OUT_DIR is not in a target directory")?.join("ebpf");
    fs::create_dir_all(&shared)?;
    let lock = File::create(shared.join(format!("{package}.lock")))?;
    lock.lock()?;
    let toolchain = match name {
        DEBIAN => {
            // SAFETY: a build script has one thread. Debian's compiler is a stable one; building `core` is not a stable feature.
            unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
            Toolchain::Custom(DEBIAN)
        }
        _ => Toolchain::Nightly,
    };
    let linker = shared.join(format!("{package}-linker.sh"));
    write_linker(&linker)?;
    // SAFETY: a build script has one thread.
    unsafe {
        env::set_var("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
        env::set_var("OUT_DIR", &shared);
    }
    let programs = Package { name: package, root_dir: folder, no_default_features: false, features: &["programs"] };
    build_ebpf([programs], toolchain)?;
    for binary in binaries {
        fs::copy(shared.join(binary), out.join(binary)).with_context(|| format!("{package} has no binary {binary}"))?;
    }
    Ok(())
}

/// Returns the rustup name of the toolchain that builds eBPF programs here, or `None` if there is none.
#[must_use]
pub fn toolchain() -> Option<&'static str> {
    [DEBIAN, NIGHTLY].into_iter().find(|name| has_sources(name))
}

/// Returns whether a rustup toolchain has the standard library's sources, which building `core` for BPF takes.
#[must_use]
pub fn has_sources(toolchain: &str) -> bool {
    let output = Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]).output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
    })
}

/// Writes a linker that generates code for the instruction set of kernel 5.1 (v3: 32-bit arithmetic and jumps).
///
/// rustc asks for "generic", the instruction set of 2014, whose code is a tenth larger. aya-build sets the compiler's flags, so that the
/// compiler's own option for it cannot be used.
fn write_linker(path: &Path) -> Result<()> {
    const SCRIPT: &str = r#"#!/bin/sh
left=$#
while [ "$left" -gt 0 ]; do
    case $1 in generic) set -- "$@" v3 ;; *) set -- "$@" "$1" ;; esac
    shift
    left=$((left - 1))
done
exec bpf-linker "$@"
"#;
    // A changed time would let cargo link again.
    if fs::read(path).ok().as_deref() != Some(SCRIPT.as_bytes()) {
        fs::write(path, SCRIPT)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
