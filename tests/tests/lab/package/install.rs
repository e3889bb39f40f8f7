//! The Debian package in a system of its own: installed, upgraded, removed, purged.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Result, ensure};
use enforcer_tests::lab::system::{System, package, run};

/// A system with a manager that only notes what it is asked for.
struct Noting(System);

impl Noting {
    fn new() -> Result<Self> {
        let system = System::new("systemd-standalone-sysusers")?;
        fs::create_dir_all(system.path("run/systemd/system"))?;
        let manager = system.path("usr/bin/systemctl");
        fs::write(&manager, "#!/bin/sh\necho \"$@\" >> /calls\n")?;
        fs::set_permissions(&manager, fs::Permissions::from_mode(0o755))?;
        fs::write(system.path("calls"), "")?;
        Ok(Self(system))
    }

    fn install(&self, package: &Path) -> Result<String> {
        fs::copy(package, self.0.path("tmp/enforcer.deb"))?;
        let said = self.0.run("dpkg --install /tmp/enforcer.deb");
        fs::remove_file(self.0.path("tmp/enforcer.deb"))?;
        said
    }

    /// What the manager was asked for since the last time.
    fn calls(&self) -> Result<String> {
        let calls = fs::read_to_string(self.0.path("calls"))?;
        fs::write(self.0.path("calls"), "")?;
        Ok(calls)
    }
}

#[test]
fn the_package_is_sound_comes_is_replaced_and_goes() -> Result<()> {
    let arguments = ["--allow-root", "--fail-on", "error,warning"];
    let noting = Noting::new()?;
    let folder = noting.0.path("tmp");
    let [old, new] = [package("0.1.0-1", &folder)?, package("0.1.0-2", &folder)?];
    // It leaves files where it has room for them.
    run(Command::new("lintian").env("TMPDIR", noting.0.path("")).args(arguments).arg(&old))?;
    let system = &noting.0;
    let before = system.files()?;

    noting.install(&old)?;
    let calls = noting.calls()?;
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
    assert!(!system.path("etc/systemd/system/multi-user.target.wants/enforcer.service").exists());
    ensure!(system.run("getent group enforcer")?.starts_with("enforcer:"));
    assert!(system.run("enforcer check /etc/enforcer/policy.toml")?.contains("rules"));
    let conffiles = system.run("dpkg-query --show --showformat=${Conffiles} enforcer")?;
    assert!(conffiles.contains("/etc/default/enforcer") && conffiles.contains("/etc/enforcer/policy.toml"));

    // What the operator wrote outlives an upgrade, and the controller that runs becomes the new one.
    let own = "ENFORCER_OPTIONS=\"--lan lan0\"\n";
    fs::write(system.path("etc/default/enforcer"), own)?;
    noting.install(&new)?;
    assert_eq!(fs::read_to_string(system.path("etc/default/enforcer"))?, own);
    assert_eq!(system.run("dpkg-query --show --showformat=${Version} enforcer")?, "0.1.0-2");
    let calls = noting.calls()?;
    ensure!(calls.contains("try-restart") && calls.contains("enforcer.service"), "{calls}");
    ensure!(!calls.lines().any(|call| call.starts_with("stop")), "judging is not to be interrupted: {calls}");

    // As a controller leaves it.
    fs::create_dir_all(system.path("var/lib/enforcer"))?;
    fs::write(system.path("var/lib/enforcer/names"), "")?;
    system.run("dpkg --remove enforcer")?;
    let calls = noting.calls()?;
    ensure!(calls.lines().any(|call| call.contains("stop") && call.contains("enforcer.service")), "{calls}");
    assert!(!system.path("usr/bin/enforcer").exists());
    assert_eq!(fs::read_to_string(system.path("etc/default/enforcer"))?, own);
    assert!(system.path("var/lib/enforcer/names").exists());

    system.run("dpkg --purge enforcer")?;
    // A group is never removed, as files may be its: what keeps groups stays.
    let groups = ["etc/group-", "etc/gshadow", "etc/gshadow-", "etc/.pwd.lock"];
    let left = system.files()?;
    let left: Vec<_> =
        left.difference(&before).filter(|path| !groups.iter().any(|kept| path.ends_with(kept))).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
