//! The lab's gateway as a machine: a system of its own, with the package, that its own systemd boots.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Lab,
    system::{System, run},
};

/// What is in it beside the essential, as on a router.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,apt,adduser,nftables";

/// Long enough for a loaded machine.
const BOOT: Duration = Duration::from_secs(60);

/// The machine; dropping it switches it off and removes it.
pub struct Machine {
    system: System,
    /// systemd-nspawn.
    child: Child,
    /// Its systemd, as this machine sees it.
    init: u32,
}

impl Machine {
    /// Boots it in the gateway's network namespace.
    pub fn boot(lab: &Lab) -> Result<Self> {
        let system = System::new(PACKAGES)?;
        lab.pins()?;
        let console = File::create(lab.path("console"))?;
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off"]);
        nspawn.args(["--capability=all", "--system-call-filter=bpf", "--machine", lab.gateway.name()]);
        nspawn.arg(format!("--network-namespace-path=/run/netns/{}", lab.gateway.name()));
        nspawn.arg(format!("--bind={}:/sys/fs/bpf", lab.path("bpf").display()));
        nspawn.arg("--directory").arg(system.path("")).stdin(Stdio::null());
        nspawn.stdout(console.try_clone()?).stderr(console);
        let child = nspawn.spawn().context("cannot run systemd-nspawn: `cargo xtask setup` installs it")?;
        let mut machine = Self { system, child, init: 0 };
        let start = Instant::now();
        while !machine.is_up()? {
            let ended = machine.child.try_wait()?.is_some();
            if ended || start.elapsed() > BOOT {
                bail!("the machine does not boot:\n{}", fs::read_to_string(lab.path("console"))?);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(machine)
    }

    fn is_up(&mut self) -> Result<bool> {
        if self.init == 0 {
            let pid = self.child.id();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            // Before it becomes systemd, it may still be in this machine's namespaces, and what is run there would be run here.
            let is_init = |pid: &&str| {
                fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.ends_with("systemd/systemd"))
            };
            let Some(init) = children.split_whitespace().find(is_init) else { return Ok(false) };
            self.init = init.parse()?;
        }
        let output = self.output("systemctl is-system-running")?;
        Ok(output.stdout.starts_with(b"running"))
    }

    /// Runs a line of shell in it.
    pub fn output(&self, line: &str) -> Result<Output> {
        let mut enter = Command::new("nsenter");
        enter.args(["--all", "--target", &self.init.to_string(), "--", "sh", "-c", line]);
        enter.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        enter.output().context("cannot run nsenter")
    }

    /// What a line of shell says in it, which must not fail.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.output(line)?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "`{line}` failed:\n{text}\n{}", self.journal()?);
        Ok(text)
    }

    /// What the service has said.
    pub fn journal(&self) -> Result<String> {
        let output = self.output("journalctl --unit enforcer --no-pager --output cat")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A property of the service.
    pub fn property(&self, name: &str) -> Result<String> {
        Ok(self.run(&format!("systemctl show --property {name} --value enforcer"))?.trim().to_owned())
    }

    /// Installs a package, or upgrades to it.
    pub fn install(&self, package: &Path) -> Result<String> {
        fs::copy(package, self.system.path("root/enforcer.deb"))?;
        self.run("DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet /root/enforcer.deb")
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.system.path(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(path, text)?)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // All of a machine ends with its first process, and systemd-nspawn then cleans up.
        if self.init != 0 {
            let _ = run(Command::new("kill").args(["-KILL", &self.init.to_string()]));
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
