//! A small system of this machine's release in a folder, and the product's package for it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};

use super::root;

/// Runs a program; an error has what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}: `cargo xtask setup` installs it", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{command:?} failed:\n{text}");
    Ok(text)
}

/// Returns a package of the product that is tested, as a file in a lab's or a system's folder.
pub fn package(version: &str, folder: &Path) -> Result<PathBuf> {
    // Another test may be making a package of this version.
    let _lock = lock()?;
    run(Command::new("cargo").args(["xtask", "package", "--built", "--version", version]).current_dir(root()))?;
    let name = format!("enforcer_{version}_amd64.deb");
    let copy = folder.join(&name);
    fs::copy(root().join("target/package").join(name), &copy)?;
    Ok(copy)
}

/// Locks the folder of packages until the returned file is dropped.
fn lock() -> Result<File> {
    let folder = root().join("target/package");
    fs::create_dir_all(&folder)?;
    let file = File::create(folder.join("lock"))?;
    file.lock()?;
    Ok(file)
}

/// Prefix of the names of systems' folders.
pub(super) const FOLDER: &str = "enforcer-system-";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The system; dropping it removes it.
pub struct System(PathBuf);

impl System {
    /// This machine's release with these packages and what is essential, unpacked from an archive that is made once.
    pub fn new(packages: &str) -> Result<Self> {
        let release = fs::read_to_string("/etc/os-release")?;
        let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).context("no code name")?;
        let archive = root().join(format!("target/package/{suite},{packages}.tar"));
        let lock = lock()?;
        if !archive.is_file() {
            let draft = archive.with_extension("draft.tar");
            let mut make = Command::new("mmdebstrap");
            make.args(["--quiet", "--variant=essential"]).arg(format!("--include={packages}")).arg(suite).arg(&draft);
            run(&mut make)?;
            fs::rename(&draft, &archive)?;
        }
        drop(lock);
        let tag = format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let system = Self(std::env::temp_dir().join(format!("{FOLDER}{tag}")));
        fs::create_dir_all(&system.0)?;
        run(Command::new("tar").arg("-C").arg(&system.0).arg("-xf").arg(&archive))?;
        Ok(system)
    }

    /// Where a path of the system is in this one.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// What a command line says in it.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut chroot = Command::new("chroot");
        chroot.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        run(chroot.arg(&self.0).args(line.split_whitespace()))
    }

    /// A file's mode.
    pub fn mode(&self, path: &str) -> Result<u32> {
        let file = fs::metadata(self.path(path)).with_context(|| path.to_owned())?;
        Ok(file.permissions().mode() & 0o7777)
    }

    /// Everything that is there, but dpkg's own notes.
    pub fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let path = entry.path();
                let inside = path.strip_prefix(&self.0)?.to_owned();
                if inside.starts_with("var/lib/dpkg") || inside.starts_with("var/log") {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                }
                found.insert(inside);
            }
        }
        Ok(found)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
