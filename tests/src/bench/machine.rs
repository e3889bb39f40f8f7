//! The machine that figures are of.

use std::{fmt, fs, thread};

use anyhow::Result;
use serde::Serialize;

/// What tells a reader how far figures carry.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The CPU's own name.
    pub cpu: String,
    /// CPUs that the system has.
    pub cpus: usize,
    /// Whether they are a hypervisor's.
    pub is_virtual: bool,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
            line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        Ok(Self {
            cpu: field("model name").to_owned(),
            cpus: thread::available_parallelism()?.get(),
            is_virtual: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_virtual { "virtual " } else { "" };
        let cpu = if self.cpu.is_empty() { "unnamed" } else { &self.cpu };
        write!(f, "{} {kind}CPUs ({cpu}), Linux {}", self.cpus, self.kernel)
    }
}
