//! The guest's file system: the product, its tests, and the programs that these call, with their libraries.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::images::Image;
use crate::run::{ROOT, find, run};

/// Programs of this system that the tests call.
const PROGRAMS: [&str; 8] = ["ip", "tc", "ethtool", "ping", "sysctl", "nft", "dnsmasq", "setpriv"];

/// The guest's first process.
const INIT: &str = include_str!("init.sh");

/// A folder that becomes the guest's file system.
pub struct Root(PathBuf);

impl Root {
    /// With this system's programs: everything but kernel modules and tests.
    pub fn of_this_system(folder: PathBuf) -> Result<Self> {
        let _ = fs::remove_dir_all(&folder);
        let root = Self::begin(folder)?;
        fs::copy(find("busybox").context("there is no busybox")?, root.0.join("bin/busybox"))?;
        for program in PROGRAMS {
            let path = find(program).with_context(|| format!("there is no {program}"))?;
            root.add(&path, &Path::new("usr/sbin").join(program))?;
        }
        Ok(root)
    }

    /// The same with the programs and libraries of an unpacked system.
    pub fn of_system(folder: PathBuf, system: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(&folder);
        run(Command::new("cp").arg("-a").arg(system).arg(&folder))?;
        for useless in ["boot", "lib/modules", "usr/share"] {
            fs::remove_dir_all(folder.join(useless))?;
        }
        Self::begin(folder)
    }

    /// What is the same of all.
    fn begin(folder: PathBuf) -> Result<Self> {
        for made in [
            "bin",
            "dev",
            "etc",
            "proc",
            "root",
            "run",
            "sys",
            "tests/deps",
            "tests/release",
            "tmp",
            "usr/bin",
            "usr/sbin",
            "var/lib",
        ] {
            fs::create_dir_all(folder.join(made))?;
        }
        let root = Self(folder);
        fs::write(
            root.0.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        )?;
        fs::write(root.0.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
        fs::write(root.0.join("init"), INIT)?;
        fs::set_permissions(root.0.join("init"), fs::Permissions::from_mode(0o755))?;
        // Tests read the policies where they were when they were built.
        let source = fs::canonicalize(ROOT)?;
        let copy = root.0.join(source.strip_prefix("/")?);
        fs::create_dir_all(copy.join("tests"))?;
        run(Command::new("cp").arg("-r").arg(source.join("policies")).arg(copy))?;
        Ok(root)
    }

    /// Copies a file to a path in the guest.
    pub fn copy(&self, file: &Path, path: &str) -> Result<()> {
        fs::copy(file, self.0.join(path)).with_context(|| file.display().to_string())?;
        Ok(())
    }

    /// Adds a program at a path in the guest, with the libraries that it is linked with; another machine's `ldd` cannot tell, and they are there.
    pub fn add(&self, program: &Path, path: &Path) -> Result<()> {
        fs::copy(program, self.0.join(path)).with_context(|| program.display().to_string())?;
        let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
        for library in String::from_utf8(output.stdout)?.split_whitespace().filter(|word| word.starts_with('/')) {
            let copy = self.0.join(library.trim_start_matches('/'));
            if !copy.exists() {
                fs::create_dir_all(copy.parent().context("a library without a folder")?)?;
                fs::copy(library, copy).with_context(|| library.to_owned())?;
            }
        }
        Ok(())
    }

    /// The archive that a kernel boots with: its modules, and a script that runs tests and leaves in `failed` how many programs have.
    pub fn pack(&self, image: &Image, script: &str, archive: &Path) -> Result<()> {
        fs::write(self.0.join("tests/run"), script)?;
        fs::create_dir_all(self.0.join("lib"))?;
        let modules = self.0.join("lib/modules");
        let _ = fs::remove_dir_all(&modules);
        run(Command::new("cp").arg("-r").arg(&image.modules).arg(&modules))?;
        let files = Command::new("find").arg(".").current_dir(&self.0).stdout(Stdio::piped()).spawn()?;
        let status = Command::new("busybox")
            .args(["cpio", "-o", "-H", "newc"])
            .current_dir(&self.0)
            .stdin(files.stdout.context("no output of find")?)
            .stdout(fs::File::create(archive)?)
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("cpio ended with {status}");
        }
        Ok(())
    }
}
