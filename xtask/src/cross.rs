//! The product for another architecture: Arm's 64-bit machines, by Debian's compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use enforcer_ebpf_build::{DEBIAN, toolchain};

use crate::{
    run::{PRODUCT, run, target_directory},
    setup,
};

/// The Rust target triple of arm64.
const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The package of the standard library that fits Debian's compiler.
const STANDARD: &str = "libstd-rust-web-dev";

/// An architecture that packages are built for.
#[derive(Clone, Copy, Debug, clap::ValueEnum, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// Returns Debian's name of the architecture.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// Installs the cross compiler, and returns a call of cargo that builds for arm64 into a target directory of its own.
pub fn cargo() -> Result<Command> {
    if toolchain() != Some(DEBIAN) {
        bail!(
            "building for arm64 needs Debian's compiler, whose standard library Debian also has for arm64: run on Debian"
        );
    }
    setup::install_for_arm64()?;
    let folder = folder()?;
    fs::create_dir_all(&folder)?;
    let sysroot = unpacked(STANDARD, &folder.join("std"))?.join("usr");
    let mut cargo = Command::new("rustup");
    cargo.args(["run", DEBIAN, "cargo"]);
    cargo.env("CARGO_BUILD_TARGET", TARGET).env("CARGO_TARGET_DIR", folder.join("target"));
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", format!("--sysroot {}", sysroot.display()));
    Ok(cargo)
}

/// Builds the product for arm64, and returns its path.
pub fn build_product() -> Result<PathBuf> {
    println!("arm64: building the product");
    run(cargo()?.args(PRODUCT))?;
    Ok(folder()?.join("target").join(TARGET).join("release/enforcer"))
}

/// Returns the folder of everything that is built for arm64.
fn folder() -> Result<PathBuf> {
    Ok(Path::new(&target_directory()?).join("arm64"))
}

/// Unpacks packages of this system's release, with their dependencies, for arm64 into a folder. They are not installed:
/// none of their programs runs here. A file beside the folder lists them, so that a changed list is unpacked again.
pub fn unpacked(packages: &str, folder: &Path) -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release")?;
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.context("/etc/os-release has no VERSION_CODENAME")?;
    let (list, wanted) = (folder.with_extension("packages"), format!("{suite} {packages}"));
    if folder.is_dir() && fs::read_to_string(&list).is_ok_and(|listed| listed == wanted) {
        return Ok(folder.to_owned());
    }
    println!("arm64: unpacking {packages} of {suite} for arm64");
    let draft = folder.with_extension("part");
    for old in [&draft, folder] {
        let _ = fs::remove_dir_all(old);
    }
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=extract", "--architectures=arm64"]).arg(format!("--include={packages}"));
    run(make.arg(suite).arg(&draft))?;
    fs::rename(&draft, folder)?;
    fs::write(list, wanted)?;
    Ok(folder.to_owned())
}
