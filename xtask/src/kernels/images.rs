//! Kernels as Debian serves them: downloaded and unpacked, not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::arm64;
use crate::{cross::Architecture, run::run, setup::apt_get};

/// What of a kernel's modules a guest may want, below `kernel` in its folder: all of the network stack, and the virtual devices that the lab is made of.
const MODULES: [&str; 6] =
    ["net", "lib", "crypto", "drivers/net/veth.ko*", "drivers/net/tun.ko*", "drivers/net/dummy.ko*"];

/// A kernel that apt knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Served {
    /// Its series and flavour: `6.1-cloud`, `6.12`, `6.12-rt`; for another machine, that and the flavour.
    pub name: String,
    /// Of the machines that it is for.
    pub architecture: Architecture,
    /// Numbers of its version, by which the newest is found.
    version: Vec<u32>,
    /// Debian's package.
    package: String,
}

impl Served {
    /// Of a package's name; nothing if that is no kernel for this architecture, such as an unsigned one or one for debugging.
    fn of(package: &str) -> Option<Self> {
        let release = package.strip_prefix("linux-image-")?.strip_suffix("-amd64")?;
        let (release, flavour) = match (release.strip_suffix("-cloud"), release.strip_suffix("-rt")) {
            (Some(release), _) => (release, "-cloud"),
            (_, Some(release)) => (release, "-rt"),
            _ => (release, ""),
        };
        let version: Vec<u32> = release
            .split(|character: char| !character.is_ascii_digit())
            .filter(|number| !number.is_empty())
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        // `linux-image-6.12-amd64` is a name for the newest of them.
        let [major, minor, _, ..] = version[..] else { return None };
        let name = format!("{major}.{minor}{flavour}");
        Some(Self { name, architecture: Architecture::Amd64, version, package: package.to_owned() })
    }

    /// The one for Arm, whose version shows when it is there: apt need not know that architecture.
    fn arm64() -> Self {
        let package = "linux-image-cloud-arm64".to_owned();
        Self { name: "cloud-arm64".to_owned(), architecture: Architecture::Arm64, version: Vec::new(), package }
    }
}

/// The newest kernel of each series and flavour that the configured suites have, and Arm's, if there are any.
pub fn served() -> Result<Vec<Served>> {
    let output =
        Command::new("apt-cache").args(["pkgnames", "linux-image-"]).output().context("cannot run apt-cache")?;
    let mut kernels = newest(&String::from_utf8(output.stdout)?);
    if !kernels.is_empty() {
        kernels.push(Served::arm64());
    }
    Ok(kernels)
}

fn newest(names: &str) -> Vec<Served> {
    let mut kernels: Vec<Served> = names.lines().filter_map(Served::of).collect();
    kernels.sort_by(|one, other| (&one.name, &other.version).cmp(&(&other.name, &one.version)));
    kernels.dedup_by(|later, first| later.name == first.name);
    kernels.sort_by(|one, other| (&one.version[..2], &one.name).cmp(&(&other.version[..2], &other.name)));
    kernels
}

/// A kernel on disk.
pub struct Image {
    /// What boots.
    pub kernel: PathBuf,
    /// The folder of `lib/modules`, whose modules are unpacked and listed.
    pub modules: PathBuf,
}

impl Image {
    /// The kernel in a folder, with its modules.
    pub fn of(boot: &Path, modules: &Path) -> Result<Self> {
        let mut files = fs::read_dir(boot)?.filter_map(|entry| Some(entry.ok()?.path()));
        let is_kernel =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
        let kernel = files.find(is_kernel).with_context(|| format!("{} has no kernel in it", boot.display()))?;
        Ok(Self { kernel, modules: modules.to_owned() })
    }
}

/// Downloads a kernel into a folder of its own, if it is not there yet, and unpacks what a guest needs of it.
pub fn fetch(served: &Served, folder: &Path) -> Result<Image> {
    if served.architecture == Architecture::Arm64 {
        return arm64::image(&arm64::system(folder)?);
    }
    let folder = folder.join(&served.package);
    if !folder.is_dir() {
        println!("kernels: downloading {}", served.package);
        let unpacked = folder.with_extension("part");
        let _ = fs::remove_dir_all(&unpacked);
        fs::create_dir_all(&unpacked)?;
        unpack(served, &unpacked)?;
        fs::rename(&unpacked, &folder)?;
    }
    Image::of(&folder.join("boot"), &folder.join("lib/modules"))
}

fn unpack(served: &Served, folder: &Path) -> Result<()> {
    let mut download = Command::new("apt-get");
    // As root, apt would drop to a user of its own, who may not write here.
    download.args(["download", "-qq", "-o", "APT::Sandbox::User=root"]).arg(&served.package).current_dir(folder);
    if run(&mut download).is_err() {
        // The lists may be older than the archive.
        apt_get(&["update", "-qq"])?;
        run(&mut download)?;
    }
    let package = fs::read_dir(folder)?.next().context("apt-get has downloaded nothing")??.path();
    let mut archive = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&package).stdout(Stdio::piped()).spawn()?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--wildcards", "--directory"])
        .arg(folder)
        .args(["./boot/vmlinuz-*", "./lib/modules/*/modules.*"]);
    tar.args(MODULES.map(|module| format!("./lib/modules/*/kernel/{module}")));
    run(tar.stdin(archive.stdout.take().context("no output of dpkg-deb")?))?;
    if !archive.wait()?.success() {
        bail!("dpkg-deb does not read {}", package.display());
    }
    fs::remove_file(package)?;
    let modules = folder.join("lib/modules");
    let shell = "find . -name '*.ko.xz' -exec xz --decompress {} + && for release in *; do busybox depmod -b ../.. $release; done";
    run(Command::new("sh").args(["-c", shell]).current_dir(modules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_series_and_flavour_is_taken() {
        let names = "linux-image-6.1.0-56-cloud-amd64\nlinux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-amd64\n\
                     linux-image-6.1.0-56-amd64-dbg\nlinux-image-6.1.0-57-amd64-unsigned\nlinux-image-amd64\nlinux-image-6.12-amd64\n\
                     linux-image-6.12.117+deb12-rt-amd64\nlinux-image-6.12.101+deb12-rt-amd64\nlinux-image-amd64-signed-template\n";
        let found: Vec<(String, String)> = newest(names).into_iter().map(|found| (found.name, found.package)).collect();
        let expected = [
            ("6.1", "linux-image-6.1.0-56-amd64"),
            ("6.1-cloud", "linux-image-6.1.0-56-cloud-amd64"),
            ("6.12-rt", "linux-image-6.12.117+deb12-rt-amd64"),
        ];
        assert_eq!(found, expected.map(|(name, package)| (name.to_owned(), package.to_owned())));
    }
}
