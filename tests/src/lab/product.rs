//! The product, running in the lab's gateway.

use std::{
    collections::BTreeMap,
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Lab, enforcer_binary};

/// A running controller; dropping it stops it.
pub struct Enforcer {
    child: Child,
    program: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

/// The longest start. Loading takes well under a second, and some 15 s in an emulated machine with two CPUs of its own.
const START: Duration = Duration::from_secs(120);

impl Enforcer {
    /// Starts `enforcer run` with a policy's text and further arguments, and waits until it enforces.
    pub fn start(lab: &Lab, policy: &str, arguments: &str) -> Result<Self> {
        lab.file("policy.toml", policy)?;
        Self::start_again(lab, arguments)
    }

    /// The same with the policy that is in the lab's file already.
    pub fn start_again(lab: &Lab, arguments: &str) -> Result<Self> {
        Self::start_by(lab, "", arguments)
    }

    /// The same through a command that becomes the program that it is given, such as setpriv.
    pub fn start_by(lab: &Lab, wrapper: &str, arguments: &str) -> Result<Self> {
        let program = enforcer_binary()?;
        let (socket, log) = (lab.path("socket"), lab.path("log"));
        let output = File::create(&log)?;
        let child = Command::new("ip")
            .args(["netns", "exec", lab.gateway.name()])
            .args(wrapper.split_whitespace())
            .arg(&program)
            .args(["run", "--verbose", "--policy"])
            .arg(lab.path("policy.toml"))
            .arg("--socket")
            .arg(&socket)
            .arg("--pins")
            .arg(lab.pins()?)
            .arg("--state")
            .arg(lab.path("state"))
            .args(arguments.split_whitespace())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut enforcer = Self { child, program, socket, log };
        let start = Instant::now();
        while !enforcer.said("enforcing")? {
            if let Some(status) = enforcer.child.try_wait()? {
                bail!("enforcer ended at once ({status}):\n{}", enforcer.log()?);
            }
            if start.elapsed() > START {
                bail!("enforcer does not start:\n{}", enforcer.log()?);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(enforcer)
    }

    fn said(&self, word: &str) -> Result<bool> {
        Ok(self.log()?.contains(word))
    }

    /// What it printed.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A command that talks to it.
    pub fn command(&self, words: &str) -> Command {
        let mut words = words.split_whitespace();
        let mut command = Command::new(&self.program);
        command.args(words.next()).arg("--socket").arg(&self.socket).args(words);
        command
    }

    /// The output of a command that talks to it.
    pub fn ask(&self, command: &str) -> Result<String> {
        let output = self.command(command).output()?;
        if !output.status.success() {
            bail!("`enforcer {command}` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Packets by `rule/service` or the pseudo rule's name.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>> {
        let json: Value = serde_json::from_str(&self.ask("counters --json")?)?;
        let text = |value: &Value| value.as_str().unwrap_or("any").to_owned();
        let rows = |key: &str| json[key].as_array().cloned().with_context(|| format!("no {key} in {json}"));
        let mut counters = BTreeMap::new();
        for row in rows("rules")? {
            let name = format!("{}/{}", text(&row["rule"]), text(&row["service"]));
            counters.insert(name, row["packets"].as_u64().context("no packets")?);
        }
        for row in rows("pseudo")? {
            counters.insert(text(&row["name"]), row["packets"].as_u64().context("no packets")?);
        }
        Ok(counters)
    }

    /// Sends SIGTERM and waits; an error if it does not end well.
    pub fn stop(mut self) -> Result<()> {
        self.terminate();
        let status = self.child.wait()?;
        if !status.success() {
            bail!("enforcer ended with {status}:\n{}", self.log()?);
        }
        Ok(())
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.crash()
    }

    /// The same, when commands are still to be given.
    pub fn crash(&mut self) -> Result<()> {
        // `ip netns exec` has become the program: the child is the controller itself.
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether it has ended by itself, well.
    pub fn has_ended(&mut self) -> Result<bool> {
        match self.child.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => bail!("enforcer ended with {status}:\n{}", self.log()?),
        }
    }

    /// Tells it to read its policy again.
    pub fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Lets it do nothing until it is [woken](Self::wake).
    pub fn halt(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on.
    pub fn wake(&self) {
        self.signal(libc::SIGCONT);
    }

    fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for, so that its number is still its own.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }
}

impl Drop for Enforcer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            let start = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) {
                if start.elapsed() > Duration::from_secs(5) {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
