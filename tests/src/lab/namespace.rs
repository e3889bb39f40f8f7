//! A network namespace.

use std::{fs::File, os::fd::AsRawFd as _, process::Command, thread};

use anyhow::{Context as _, Result, bail, ensure};

use super::{command, orphans};

/// A named network namespace, removed when it is dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with loopback up and without duplicate address detection, which would make every test wait. Its name ends with this process's number
    /// and one more, by which a later run knows that this one was killed.
    pub fn new(name: &str) -> Result<Self> {
        orphans::remove();
        command(&format!("ip netns add {name}"))?;
        let namespace = Self { name: name.to_owned() };
        namespace.run("ip link set lo up")?;
        namespace.run("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.router_solicitations=0")?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command line in it.
    pub fn run(&self, line: &str) -> Result<()> {
        command(&format!("ip netns exec {} {line}", self.name))
    }

    /// What a command line prints in it.
    pub fn output(&self, line: &str) -> Result<String> {
        let output = Command::new("ip").args(["netns", "exec", &self.name]).args(line.split_whitespace()).output()?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What a command line that fails prints in it, on both of its outputs. One that goes on is ended.
    pub fn output_of(&self, line: &str) -> Result<String> {
        let words = ["60", "ip", "netns", "exec", &self.name];
        let output = Command::new("timeout").args(words).args(line.split_whitespace()).output()?;
        ensure!(output.status.code() != Some(124), "still runs after a minute: {line}");
        Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
    }

    /// Runs code in it, on a thread of its own; sockets opened there stay there.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let path = format!("/run/netns/{}", self.name);
                let file = File::open(&path).with_context(|| path.clone())?;
                // SAFETY: an open descriptor and a flag; it moves this thread alone.
                if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                    bail!("cannot enter {path}: {}", std::io::Error::last_os_error());
                }
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = command(&format!("ip netns del {}", self.name)) {
            eprintln!("{error}");
        }
    }
}
