//! Emulated machines of each architecture.

use std::process::Command;

use crate::cross::Architecture;

impl Architecture {
    /// Returns a call of qemu that emulates such a machine.
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

    /// Returns the kernel's name of its serial line.
    pub const fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}
