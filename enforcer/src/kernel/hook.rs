//! Where in the kernel's way of a packet programs are attached, and by what.

use std::fmt;

use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use serde::Serialize;

use super::KernelError;

/// How clients' frames are caught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver, or an error.
    Native,
    /// XDP behind the allocation of a socket buffer: for tests and odd NICs.
    Generic,
    /// In the driver; where it has no XDP (bridges, VLANs, tunnels), by TC at ingress.
    #[default]
    Auto,
    /// Not by XDP: by TC at ingress, for drivers whose XDP is not to be trusted.
    Off,
}

/// How TC's programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TcMode {
    /// By TCX; by filters of the clsact qdisc where the kernel has no TCX.
    #[default]
    Auto,
    /// By TCX, or an error: Linux has it from 6.6 on.
    Tcx,
    /// By filters of the clsact qdisc, which others may take away.
    Clsact,
}

/// Hooks of TC, by one of its ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tc {
    pub ingress: Hook,
    pub egress: Hook,
}

const TCX: Tc = Tc { ingress: Hook::TcxIngress, egress: Hook::TcxEgress };
const CLSACT: Tc = Tc { ingress: Hook::ClsactIngress, egress: Hook::ClsactEgress };

impl TcMode {
    /// What it comes to on this kernel.
    pub(super) fn hooks(self, interface: &str) -> Result<Tc, KernelError> {
        self.chosen(|| has_tcx(interface) != Some(false)).ok_or(KernelError::NoTcx)
    }

    fn chosen(self, has_tcx: impl Fn() -> bool) -> Option<Tc> {
        match self {
            Self::Clsact => Some(CLSACT),
            Self::Auto | Self::Tcx if has_tcx() => Some(TCX),
            Self::Auto => Some(CLSACT),
            Self::Tcx => None,
        }
    }
}

/// Whether the kernel has TCX. It is asked, as vendors' version numbers do not tell: one without refuses the very question. Nothing, if the answer is about
/// something else, such as rights.
#[must_use]
pub fn has_tcx(interface: &str) -> Option<bool> {
    match SchedClassifier::query_tcx(interface, TcAttachType::Ingress) {
        Ok(_) => Some(true),
        Err(error) => is_unknown(&error).then_some(false),
    }
}

/// Whether a question was about an attach type that the kernel does not know (before 6.6), or was built without: `BPF_PROG_QUERY` then gives EINVAL. That
/// an interface is gone or a right missing is another error.
fn is_unknown(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EINVAL))
}

/// A hook that a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the stack.
    XdpGeneric,
    /// TC before the stack.
    TcxIngress,
    /// TC behind it.
    TcxEgress,
    /// The same before the stack, by a filter of the clsact qdisc.
    ClsactIngress,
    /// And behind it.
    ClsactEgress,
}

impl Hook {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "native XDP",
            Self::XdpGeneric => "generic XDP",
            Self::TcxIngress => "TCX ingress",
            Self::TcxEgress => "TCX egress",
            Self::ClsactIngress => "clsact ingress",
            Self::ClsactEgress => "clsact egress",
        }
    }

    /// In a pin's name.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::TcxIngress => "tcx-ingress",
            Self::TcxEgress => "tcx-egress",
            Self::ClsactIngress => "clsact-ingress",
            Self::ClsactEgress => "clsact-egress",
        }
    }

    /// Before the stack, or behind it.
    pub(crate) const fn side(self) -> &'static str {
        match self {
            Self::XdpNative | Self::XdpGeneric | Self::TcxIngress | Self::ClsactIngress => "ingress",
            Self::TcxEgress | Self::ClsactEgress => "egress",
        }
    }

    pub(super) const fn is_xdp(self) -> bool {
        matches!(self, Self::XdpNative | Self::XdpGeneric)
    }

    /// Whether it is a filter's, which is no BPF link.
    pub(super) const fn is_clsact(self) -> bool {
        matches!(self, Self::ClsactIngress | Self::ClsactEgress)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::sys::SyscallError;

    use super::*;

    #[test]
    fn tcx_is_taken_where_it_is_and_never_missed_in_silence() {
        let chosen = |mode: TcMode, has_tcx| mode.chosen(|| has_tcx);
        assert_eq!(chosen(TcMode::Auto, true), Some(TCX));
        assert_eq!(chosen(TcMode::Auto, false), Some(CLSACT));
        assert_eq!(chosen(TcMode::Tcx, true), Some(TCX));
        assert_eq!(chosen(TcMode::Tcx, false), None);
        assert_eq!(TcMode::Clsact.chosen(|| unreachable!("it need not be asked")), Some(CLSACT));
    }

    #[test]
    fn only_a_kernel_that_does_not_know_the_question_has_no_tcx() {
        let refused = |errno| {
            let io_error = io::Error::from_raw_os_error(errno);
            is_unknown(&SyscallError { call: "bpf_prog_query", io_error }.into())
        };
        assert!(refused(libc::EINVAL));
        for errno in [libc::EPERM, libc::ENODEV, libc::ENOSPC, libc::ENOENT, libc::EACCES] {
            assert!(!refused(errno), "{errno}");
        }
        assert!(!is_unknown(&ProgramError::UnknownInterface { name: "lan0".into() }));
    }
}
