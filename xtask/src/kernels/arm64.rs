//! Arm's 64-bit machines: Debian's packages for them, unpacked, and the product and its tests, built for them by Debian's compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use enforcer_ebpf_build::{DEBIAN, toolchain};

use super::{folder, images::Image};
use crate::{
    run::{PRODUCT, run},
    setup,
};

/// The compiler's word for such a machine.
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What tests call, a kernel, and what installs the package.
const SYSTEM: &str = "iproute2,ethtool,iputils-ping,procps,nftables,dnsmasq-base,util-linux,busybox-static,linux-image-cloud-arm64,\
     dpkg,libc-bin,systemd-standalone-sysusers";
/// The standard library, as it fits Debian's compiler.
const STANDARD: &str = "libstd-rust-web-dev";

/// Unpacks a system with a kernel into a folder, if it is not there yet.
pub fn system(folder: &Path) -> Result<PathBuf> {
    unpacked(SYSTEM, &folder.join("arm64-system"))
}

/// The kernel of an unpacked system.
pub fn image(system: &Path) -> Result<Image> {
    let shell = "for release in lib/modules/*; do busybox depmod -b . ${release##*/}; done";
    run(Command::new("sh").args(["-c", shell]).current_dir(system))?;
    Image::of(&system.join("boot"), &system.join("lib/modules"))
}

/// Returns a call of cargo that builds for such a machine, into a folder of its own.
pub fn cargo() -> Result<Command> {
    if toolchain() != Some(DEBIAN) {
        bail!(
            "building for arm64 takes Debian's compiler, {DEBIAN:?}, whose standard library Debian has for arm64, too"
        );
    }
    let folder = folder()?;
    let sysroot = unpacked(STANDARD, &folder.join("arm64-std"))?.join("usr");
    let mut cargo = Command::new("rustup");
    cargo.args(["run", DEBIAN, "cargo"]);
    cargo.env("CARGO_BUILD_TARGET", TARGET).env("CARGO_TARGET_DIR", folder.join("arm64"));
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", format!("--sysroot {}", sysroot.display()));
    Ok(cargo)
}

/// Installs what building for such a machine takes, builds the product, and returns its path.
pub fn build_product() -> Result<PathBuf> {
    setup::install_for_arm64()?;
    println!("kernels: building for arm64");
    run(cargo()?.args(PRODUCT))?;
    Ok(folder()?.join("arm64").join(TARGET).join("release/enforcer"))
}

/// Packages of this system's release and what they depend on, for arm64: unpacked, not installed, as nothing of theirs runs here.
/// A mark beside them says which they are.
fn unpacked(packages: &str, folder: &Path) -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release")?;
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.context("/etc/os-release tells no VERSION_CODENAME")?;
    let (mark, are) = (folder.with_extension("packages"), format!("{suite} {packages}"));
    if folder.is_dir() && fs::read_to_string(&mark).is_ok_and(|marked| marked == are) {
        return Ok(folder.to_owned());
    }
    println!("kernels: unpacking {packages} of {suite} for arm64");
    let draft = folder.with_extension("part");
    for old in [&draft, folder] {
        let _ = fs::remove_dir_all(old);
    }
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=extract", "--architectures=arm64"]).arg(format!("--include={packages}"));
    run(make.arg(suite).arg(&draft))?;
    fs::rename(&draft, folder)?;
    fs::write(mark, are)?;
    Ok(folder.to_owned())
}
