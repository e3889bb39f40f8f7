//! Installing what is missing. Two routes lead to a compiler for BPF: a rustup nightly with the standard library's sources, or, where rustup's server
//! cannot be reached, Debian's own compiler. No toolchain that is there is changed.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::run::{cargo_path, has, is_root, run};

/// Programs that the lab's tests call, with the Debian packages they are in.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("ethtool", "ethtool"),
    ("curl", "curl"),
    ("sysctl", "procps"),
];

/// Debian's compiler with the sources of `core`, its clippy, and what bpf-linker is linked with.
const DEBIAN_COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];
const DEBIAN_LLVM: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "libxml2-dev"];
const DEBIAN_LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "0.13.0";

/// Installs what is missing.
pub fn install() -> Result<()> {
    let missing: Vec<&str> = TOOLS.iter().filter(|(tool, _)| !has(tool)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        apt(&missing, "the lab's tests call them")?;
    }
    if !has("rustup") {
        bail!(
            "rustup is missing: it chooses between this project's two toolchains; install it (https://rustup.rs, or your distribution's package)"
        );
    }
    let route = route()?;
    if !has("bpf-linker") {
        install_linker(route)?;
    }
    Ok(())
}

/// A toolchain that can build `core` for BPF.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// rustup's nightly.
    Nightly,
    /// Debian's compiler, linked as toolchain `debian`.
    Debian,
}

/// The route that is open already, or the one that can be opened.
pub fn route() -> Result<Route> {
    if has_sources("nightly") {
        return Ok(Route::Nightly);
    }
    if has_sources("debian") {
        return Ok(Route::Debian);
    }
    println!("setup: adding the nightly toolchain with rust-src: building `core` for BPF needs both");
    let reachable = Command::new("curl")
        .args(["-sfI", "--max-time", "5", "https://static.rust-lang.org/rustup/release-stable.toml"])
        .output();
    if reachable.is_ok_and(|output| output.status.success()) {
        run(Command::new("rustup").args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src,clippy",
        ]))?;
        return Ok(Route::Nightly);
    }
    println!("setup: rustup's server cannot be reached from here; Debian's compiler will do");
    if !Path::new("/etc/debian_version").exists() {
        bail!(
            "without rustup's server, the compiler for BPF comes from Debian's packages, and this is no Debian: allow static.rust-lang.org and try again"
        );
    }
    apt(DEBIAN_COMPILER, "a compiler with the sources of `core`, to build eBPF programs")?;
    run(Command::new("rustup").args(["toolchain", "link", "debian", "/usr"]))?;
    if !has_sources("debian") {
        bail!("Debian's compiler is installed, but its sources are not where they should be (/usr/lib/rustlib/src)");
    }
    Ok(Route::Debian)
}

/// Whether a rustup toolchain has the standard library's sources.
fn has_sources(toolchain: &str) -> bool {
    let output = Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]).output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
    })
}

fn install_linker(route: Route) -> Result<()> {
    println!("setup: installing bpf-linker {LINKER_VERSION}: it makes BPF objects of what rustc compiles");
    let mut cargo = Command::new(cargo_path());
    cargo.args(["install", "bpf-linker", "--version", LINKER_VERSION]);
    // Debian's compiler and its LLVM go together; with rustup's nightly, bpf-linker finds an LLVM by itself.
    if route == Route::Debian {
        apt(DEBIAN_LLVM, "bpf-linker is linked with LLVM")?;
        cargo.args(["--no-default-features", "--features", "llvm-22"]);
        cargo.env("LLVM_PREFIX", DEBIAN_LLVM_PREFIX).env("LLVM_SYS_221_PREFIX", DEBIAN_LLVM_PREFIX);
    }
    run(&mut cargo).context("bpf-linker does not build: see https://github.com/aya-rs/bpf-linker#installation")
}

/// Installs Debian packages, saying why.
fn apt(packages: &[&str], why: &str) -> Result<()> {
    if !has("apt-get") {
        bail!("please install {} with this system's package manager: {why}", packages.join(", "));
    }
    println!("setup: installing {} ({why})", packages.join(", "));
    let apt = |arguments: &[&str]| {
        let mut command = if is_root() {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.arg("apt-get");
            sudo
        };
        run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}
