//! The guest of Arm's 64-bit machines: an unpacked Debian with a kernel.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::images::Image;
use crate::{cross::unpacked, run::run};

/// Packages with a kernel, the programs that tests call, and what installs the product's package.
const SYSTEM: &str = "iproute2,ethtool,iputils-ping,procps,nftables,dnsmasq-base,util-linux,busybox-static,\
                      linux-image-cloud-arm64,dpkg,libc-bin,systemd-standalone-sysusers";

/// Unpacks a system with a kernel below a folder, if it is not there yet.
pub fn system(folder: &Path) -> Result<PathBuf> {
    unpacked(SYSTEM, &folder.join("arm64-system"))
}

/// Returns the kernel of an unpacked system.
pub fn image(system: &Path) -> Result<Image> {
    let shell = "for release in lib/modules/*; do busybox depmod -b . ${release##*/}; done";
    run(Command::new("sh").args(["-c", shell]).current_dir(system))?;
    Image::of(&system.join("boot"), &system.join("lib/modules"))
}
