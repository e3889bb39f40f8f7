//! The Debian package in a system of its own: installed, upgraded, removed, purged.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::lab::{binary, root};

/// Runs a program; an error has what it said.
fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}: `cargo xtask setup` installs it", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{command:?} failed:\n{text}");
    Ok(text)
}

/// The package, of what is built.
fn package(version: &str) -> Result<PathBuf> {
    run(Command::new(binary("xtask")?).args(["package", "--built", "--version", version]).current_dir(root()))?;
    Ok(root().join(format!("target/package/enforcer_{version}_amd64.deb")))
}

/// A small system in a folder; dropping it removes it.
struct System(PathBuf);

impl System {
    /// Unpacked from an archive that is made once.
    fn new() -> Result<Self> {
        let release = fs::read_to_string("/etc/os-release")?;
        let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).context("no code name")?;
        let archive = root().join(format!("target/package/system-{suite}.tar"));
        if !archive.is_file() {
            let draft = archive.with_extension("draft.tar");
            fs::create_dir_all(root().join("target/package"))?;
            let mut make = Command::new("mmdebstrap");
            make.args(["--quiet", "--variant=essential", "--include=systemd-standalone-sysusers", suite]).arg(&draft);
            run(&mut make)?;
            fs::rename(&draft, &archive)?;
        }
        let system = Self(std::env::temp_dir().join(format!("enforcer-system-{}", process::id())));
        fs::create_dir_all(&system.0)?;
        run(Command::new("tar").arg("-C").arg(&system.0).arg("-xf").arg(&archive))?;
        // A manager that only notes what it is asked for.
        fs::create_dir_all(system.0.join("run/systemd/system"))?;
        let manager = system.0.join("usr/bin/systemctl");
        fs::write(&manager, "#!/bin/sh\necho \"$@\" >> /calls\n")?;
        fs::set_permissions(&manager, fs::Permissions::from_mode(0o755))?;
        fs::write(system.0.join("calls"), "")?;
        Ok(system)
    }

    fn run(&self, line: &str) -> Result<String> {
        let mut chroot = Command::new("chroot");
        chroot.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        run(chroot.arg(&self.0).args(line.split_whitespace()))
    }

    fn install(&self, package: &Path) -> Result<String> {
        fs::copy(package, self.0.join("tmp/enforcer.deb"))?;
        let said = self.run("dpkg --install /tmp/enforcer.deb");
        fs::remove_file(self.0.join("tmp/enforcer.deb"))?;
        said
    }

    /// What the manager was asked for since the last time.
    fn calls(&self) -> Result<String> {
        let calls = fs::read_to_string(self.0.join("calls"))?;
        fs::write(self.0.join("calls"), "")?;
        Ok(calls)
    }

    fn mode(&self, path: &str) -> Result<u32> {
        let file = fs::metadata(self.0.join(path)).with_context(|| path.to_owned())?;
        Ok(file.permissions().mode() & 0o7777)
    }

    /// Everything that is there, but dpkg's own notes.
    fn files(&self) -> Result<BTreeSet<PathBuf>> {
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

#[test]
fn the_package_is_sound_comes_is_replaced_and_goes() -> Result<()> {
    let [old, new] = [package("0.1.0-1")?, package("0.1.0-2")?];
    let arguments = ["--allow-root", "--fail-on", "error,warning"];
    run(Command::new("lintian").args(arguments).arg(&old))?;
    let system = System::new()?;
    let before = system.files()?;

    system.install(&old)?;
    let calls = system.calls()?;
    // No start: it could cut a network off.
    ensure!(calls.lines().all(|call| call.contains("daemon-reload")), "{calls}");
    for (path, mode) in [
        ("usr/bin/enforcer", 0o755),
        ("usr/lib/systemd/system/enforcer.service", 0o644),
        ("usr/lib/sysusers.d/enforcer.conf", 0o644),
        ("etc/default/enforcer", 0o644),
        ("etc/enforcer/policy.toml", 0o644),
        ("usr/share/enforcer/policies/school.toml", 0o644),
        ("usr/share/enforcer/policies/catalog/apple.toml", 0o644),
        ("usr/share/doc/enforcer/copyright", 0o644),
        ("usr/share/doc/enforcer/changelog.Debian.gz", 0o644),
    ] {
        assert_eq!(system.mode(path)?, mode, "{path}");
    }
    assert!(!system.0.join("etc/systemd/system/multi-user.target.wants/enforcer.service").exists());
    ensure!(system.run("getent group enforcer")?.starts_with("enforcer:"));
    assert!(system.run("enforcer check /etc/enforcer/policy.toml")?.contains("rules"));
    let conffiles = system.run("dpkg-query --show --showformat=${Conffiles} enforcer")?;
    assert!(conffiles.contains("/etc/default/enforcer") && conffiles.contains("/etc/enforcer/policy.toml"));

    // What the operator wrote outlives an upgrade, and the controller that runs becomes the new one.
    let own = "ENFORCER_OPTIONS=\"--lan lan0\"\n";
    fs::write(system.0.join("etc/default/enforcer"), own)?;
    system.install(&new)?;
    assert_eq!(fs::read_to_string(system.0.join("etc/default/enforcer"))?, own);
    assert_eq!(system.run("dpkg-query --show --showformat=${Version} enforcer")?, "0.1.0-2");
    let calls = system.calls()?;
    ensure!(calls.contains("try-restart") && calls.contains("enforcer.service"), "{calls}");
    ensure!(!calls.lines().any(|call| call.starts_with("stop")), "judging is not to be interrupted: {calls}");

    // As a controller leaves it.
    fs::create_dir_all(system.0.join("var/lib/enforcer"))?;
    fs::write(system.0.join("var/lib/enforcer/names"), "")?;
    system.run("dpkg --remove enforcer")?;
    let calls = system.calls()?;
    ensure!(calls.lines().any(|call| call.contains("stop") && call.contains("enforcer.service")), "{calls}");
    assert!(!system.0.join("usr/bin/enforcer").exists());
    assert_eq!(fs::read_to_string(system.0.join("etc/default/enforcer"))?, own);
    assert!(system.0.join("var/lib/enforcer/names").exists());

    system.run("dpkg --purge enforcer")?;
    // A group is never removed, as files may be its: what keeps groups stays.
    let groups = ["etc/group-", "etc/gshadow", "etc/gshadow-", "etc/.pwd.lock"];
    let left = system.files()?;
    let left: Vec<_> =
        left.difference(&before).filter(|path| !groups.iter().any(|kept| path.ends_with(kept))).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
