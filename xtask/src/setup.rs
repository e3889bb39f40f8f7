//! Installing what is missing. No toolchain that is there is changed, updated or removed.
//!
//! Building eBPF programs takes a compiler with the sources of `core`, and `bpf-linker` with an LLVM that is not older than the compiler's. Two routes
//! lead there: Debian's own packages, which fit each other and need no other server, and where they are not to be had, rustup's nightly
//! with the linker that its makers publish.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use enforcer_ebpf_build::{DEBIAN, NIGHTLY, has_sources, toolchain};

use crate::{
    run::{cargo_path, has, is_root, run},
    tools,
};

/// Programs that tests, the benchmark and packaging call, with the Debian packages they are in.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("ipset", "ipset"),
    ("xdp-filter", "xdp-tools"),
    ("ping", "iputils-ping"),
    ("ethtool", "ethtool"),
    ("curl", "curl"),
    ("sysctl", "procps"),
    ("dnsmasq", "dnsmasq-base"),
    ("unbound", "unbound"),
    ("chronyd", "chrony"),
    ("dig", "bind9-dnsutils"),
    ("setpriv", "util-linux"),
    ("systemd-analyze", "systemd"),
    ("systemd-nspawn", "systemd-container"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("lintian", "lintian"),
    ("mmdebstrap", "mmdebstrap"),
    ("squid", "squid"),
    ("busybox", "busybox-static"),
    ("duk", "duktape"),
    ("python3", "python3"),
    ("tmux", "tmux"),
    ("man", "man-db"),
];

/// Programs that kernels are unpacked and booted with, likewise.
const KERNELS: &[(&str, &str)] = &[("qemu-system-x86_64", "qemu-system-x86"), ("xz", "xz-utils"), ("dpkg-deb", "dpkg")];

/// The emulator of arm64.
const ARM64_EMULATOR: &[(&str, &str)] = &[("qemu-system-aarch64", "qemu-system-arm")];

/// The cross compiler for arm64. C's headers and start files for it come with no program.
const ARM64: &[(&str, &str)] = &[("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")];
const ARM64_LIBC: (&str, &str) = ("/usr/aarch64-linux-gnu/include", "libc6-dev-arm64-cross");

/// Captures of real traffic that a test replays, and the Debian package that ships them.
const CAPTURES: (&str, &str) = ("/usr/share/doc/python3-dpkt/examples/data", "python3-dpkt");

/// Debian's compiler with the sources of `core`, its clippy, and what bpf-linker is linked with.
const DEBIAN_COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];
const DEBIAN_LLVM: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "libxml2-dev", "g++"];
const DEBIAN_LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LINKER_VERSION: &str = "0.13.0";

/// Installs what is missing.
pub fn install() -> Result<()> {
    install_missing(&missing(TOOLS), "tests, the benchmark and packaging call them")?;
    if !has("rustup") {
        bail!(
            "rustup is missing: it chooses between this project's two toolchains; install it (https://rustup.rs, or your distribution's package)"
        );
    }
    let (compiler, linker) = (toolchain(), has("bpf-linker"));
    if compiler.is_none() || !linker {
        if compiler == Some(DEBIAN) || debian_serves_it()? {
            debian_route(compiler == Some(DEBIAN), linker)?;
        } else {
            nightly_route(compiler.is_some(), linker)?;
        }
    }
    check_linker()
}

/// Installs what tests alone need.
pub fn install_for_tests() -> Result<()> {
    let (folder, package) = CAPTURES;
    if !Path::new(folder).is_dir() {
        apt(&[package], "a test replays the captures in its documentation")?;
    }
    tools::install()
}

/// Installs what tests with a browser need.
pub fn install_for_browsers() -> Result<()> {
    install_missing(&missing(&[("chromium", "chromium")]), "tests open pages in it")
}

/// Installs what booting kernels takes.
pub fn install_for_kernels() -> Result<()> {
    install_missing(&missing(KERNELS), "kernels boot in a virtual machine, from a file system of these")
}

/// Installs the emulator of arm64.
pub fn install_for_arm64_guests() -> Result<()> {
    install_missing(&missing(ARM64_EMULATOR), "tests for arm64 run in a virtual machine")
}

/// Installs the cross compiler for arm64.
pub fn install_for_arm64() -> Result<()> {
    let (headers, libc) = ARM64_LIBC;
    let mut packages = missing(ARM64);
    packages.extend((!Path::new(headers).is_dir()).then_some(libc));
    install_missing(&packages, "the product is built for arm64")
}

/// Packages of the tools that are not there.
fn missing(tools: &[(&str, &'static str)]) -> Vec<&'static str> {
    tools.iter().filter(|(tool, _)| !has(tool)).map(|(_, package)| *package).collect()
}

fn install_missing(packages: &[&str], why: &str) -> Result<()> {
    if packages.is_empty() { Ok(()) } else { apt(packages, why) }
}

/// Installs what is not there yet.
fn debian_route(compiler: bool, linker: bool) -> Result<()> {
    if !compiler {
        apt(DEBIAN_COMPILER, "a compiler with the sources of `core`, to build eBPF programs")?;
        println!("setup: linking it as rustup's toolchain `{DEBIAN}`");
        run(Command::new("rustup").args(["toolchain", "link", DEBIAN, "/usr"]))?;
        if !has_sources(DEBIAN) {
            bail!(
                "Debian's compiler is installed, but its sources are not where they should be (/usr/lib/rustlib/src)"
            );
        }
    }
    if linker {
        return Ok(());
    }
    apt(DEBIAN_LLVM, "bpf-linker is linked with LLVM")?;
    println!("setup: building bpf-linker {LINKER_VERSION}: it makes BPF objects of what rustc compiles");
    let mut cargo = Command::new(cargo_path());
    cargo.args(["install", "--quiet", "--locked", "bpf-linker", "--version", LINKER_VERSION]);
    cargo.args(["--no-default-features", "--features", "llvm-22"]);
    cargo.env("LLVM_PREFIX", DEBIAN_LLVM_PREFIX).env("LLVM_SYS_221_PREFIX", DEBIAN_LLVM_PREFIX);
    run(&mut cargo).context("bpf-linker does not build: see https://github.com/aya-rs/bpf-linker#installation")
}

/// Installs what is not there yet. A nightly that is there only gets its sources; it stays at its version.
fn nightly_route(compiler: bool, linker: bool) -> Result<()> {
    if !compiler {
        let listed = Command::new("rustup").args(["toolchain", "list"]).output().context("cannot run rustup")?;
        let there = String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.starts_with(NIGHTLY));
        println!("setup: adding rustup's nightly with rust-src: building `core` for BPF needs both");
        let parts = ["--component", "rust-src", "--component", "clippy"];
        let arguments = if there {
            vec!["component", "add", "--toolchain", NIGHTLY, "rust-src", "clippy"]
        } else {
            [&["toolchain", "install", NIGHTLY, "--profile", "minimal"][..], &parts].concat()
        };
        run(Command::new("rustup").args(arguments))?;
    }
    if linker {
        return Ok(());
    }
    println!("setup: installing bpf-linker as its makers publish it: it makes BPF objects of what rustc compiles");
    if !has("cargo-binstall") {
        println!("setup: installing cargo-binstall, which fetches it");
        run(Command::new(cargo_path()).args(["install", "--quiet", "--locked", "cargo-binstall"]))?;
    }
    run(Command::new(cargo_path()).args(["binstall", "--no-confirm", "bpf-linker"]))
        .context("bpf-linker cannot be fetched: see https://github.com/aya-rs/bpf-linker#installation")
}

/// Whether Debian's packages for this route can be had here: Debian 12 and later have them among their security updates, Ubuntu has not.
fn debian_serves_it() -> Result<bool> {
    if !has("apt-get") {
        return Ok(false);
    }
    println!("setup: asking apt for a compiler that builds `core` for BPF");
    apt_get(&["update", "-qq"])?;
    let known = |package: &&str| {
        let output = Command::new("apt-cache").args(["show", "--no-all-versions", package]).output();
        output.is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
    };
    Ok(DEBIAN_COMPILER.iter().chain(DEBIAN_LLVM).all(known))
}

/// An older linker has an older LLVM, which cannot read what the compilers write.
fn check_linker() -> Result<()> {
    let output = Command::new("bpf-linker").arg("--version").output().context("cannot run bpf-linker")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |version: &str| -> Option<(u32, u32)> {
        let mut parts = version.trim().split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let found = text.rsplit(' ').next().and_then(number);
    if found < number(LINKER_VERSION) {
        bail!(
            "{} is older than {LINKER_VERSION}, which reads what current compilers write: remove it (`cargo uninstall bpf-linker`) and run this again",
            text.trim()
        );
    }
    Ok(())
}

/// Installs Debian packages, saying why.
pub fn apt(packages: &[&str], why: &str) -> Result<()> {
    if !has("apt-get") {
        bail!("please install {} with this system's package manager: {why}", packages.join(", "));
    }
    println!("setup: installing {} ({why})", packages.join(", "));
    apt_get(&["update", "-qq"])?;
    apt_get(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

pub fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = if is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}
