//! What kernels are for: this machine, or Arm's.

use std::process::Command;

/// A machine's architecture, by Debian's word.
#[derive(Clone, Copy, Debug, clap::ValueEnum, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// Returns Debian's word for it.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Such a machine in software.
    pub fn qemu(self) -> Command {
        let (program, machine) = match self {
            Self::Amd64 => ("qemu-system-x86_64", &["-cpu", "qemu64"][..]),
            // Of the 64-bit Arm that most routers have.
            Self::Arm64 => ("qemu-system-aarch64", &["-machine", "virt", "-cpu", "cortex-a72"][..]),
        };
        let mut qemu = Command::new(program);
        qemu.args(machine);
        qemu
    }

    /// Its serial line, by the kernel's name.
    pub const fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}
