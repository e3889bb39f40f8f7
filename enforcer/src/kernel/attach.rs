//! Programs on interfaces, by BPF links that detach when they are dropped.

use std::fmt;

use aya::programs::{
    LinkOrder, ProgramError, TcAttachType, XdpMode as AyaMode,
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};
use serde::Serialize;

use super::{KernelError, object::Object, snoop};

/// How clients' frames are caught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver, or an error.
    Native,
    /// XDP behind the allocation of a socket buffer: for tests and odd NICs.
    Generic,
    /// In the driver; where it has no XDP (bridges, VLANs, tunnels), TCX ingress.
    #[default]
    Auto,
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
}

impl Hook {
    const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "native XDP",
            Self::XdpGeneric => "generic XDP",
            Self::TcxIngress => "TCX ingress",
            Self::TcxEgress => "TCX egress",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A program on an interface; dropping it detaches.
pub struct Attached {
    /// The interface's name when it was attached.
    pub interface: String,
    /// The hook.
    pub hook: Hook,
    /// The program's name.
    pub program: &'static str,
    _link: Link,
}

/// Detaches when it is dropped, whether the kernel gave a BPF link or, where it found none possible, aya attached by netlink.
#[expect(dead_code, reason = "held to be dropped")]
enum Link {
    Xdp(XdpLink),
    Tcx(SchedClassifierLink),
}

/// Attaches the programs of a LAN: the judge at its ingress, the recorder of inbound connections at its egress. An interface with no
/// link-layer header cannot carry XDP, so it goes straight to TCX under `auto`.
///
/// # Errors
/// If the kernel refuses; what was attached by this call is detached again.
pub fn lan(object: &mut Object, interface: &str, layer3: bool, mode: XdpMode) -> Result<Vec<Attached>, KernelError> {
    let judge = match mode {
        XdpMode::Native => xdp(object, interface, Hook::XdpNative)?,
        XdpMode::Generic => xdp(object, interface, Hook::XdpGeneric)?,
        XdpMode::Auto if layer3 => tcx(object, interface, "lan_ingress", Hook::TcxIngress)?,
        XdpMode::Auto => match xdp(object, interface, Hook::XdpNative) {
            Err(KernelError::Attach { source: ProgramError::SyscallError(error), .. })
                if error.io_error.raw_os_error() == Some(libc::EOPNOTSUPP) =>
            {
                tcx(object, interface, "lan_ingress", Hook::TcxIngress)?
            }
            other => other?,
        },
    };
    Ok(vec![tcx(object, interface, "lan_egress", Hook::TcxEgress)?, judge])
}

/// Attaches the programs that hear DNS on a LAN. Called before [`lan`], whose judge then comes first: what it denies is not heard.
///
/// # Errors
/// As [`lan`].
pub fn snoop(object: &mut Object, interface: &str) -> Result<Vec<Attached>, KernelError> {
    Ok(vec![
        tcx(object, interface, snoop::EGRESS, Hook::TcxEgress)?,
        tcx(object, interface, snoop::INGRESS, Hook::TcxIngress)?,
    ])
}

/// Attaches the programs of a WAN.
///
/// # Errors
/// As [`lan`].
pub fn wan(object: &mut Object, interface: &str) -> Result<Vec<Attached>, KernelError> {
    Ok(vec![
        tcx(object, interface, "wan_ingress", Hook::TcxIngress)?,
        tcx(object, interface, "wan_egress", Hook::TcxEgress)?,
    ])
}

/// Tries the program for frames in one buffer first: it is the faster one. Drivers that may hand over several buffers refuse it.
fn xdp(object: &mut Object, interface: &str, hook: Hook) -> Result<Attached, KernelError> {
    match xdp_program(object, interface, hook, "lan_xdp") {
        Err(KernelError::Attach { source, .. }) if wants_frags(&source) => {
            xdp_program(object, interface, hook, "lan_xdp_frags")
        }
        other => other,
    }
}

fn xdp_program(object: &mut Object, interface: &str, hook: Hook, name: &'static str) -> Result<Attached, KernelError> {
    let mode = if hook == Hook::XdpGeneric { AyaMode::Skb } else { AyaMode::Driver };
    let program = object.xdp(name)?;
    let link = program
        .attach(interface, mode)
        .and_then(|id| program.take_link(id))
        .map_err(|source| refused(name, interface, hook, source))?;
    Ok(Attached { interface: interface.to_owned(), hook, program: name, _link: Link::Xdp(link) })
}

/// Whether a driver may only have refused a program for frames in one buffer.
fn wants_frags(error: &ProgramError) -> bool {
    match error {
        ProgramError::SyscallError(error) => {
            matches!(error.io_error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ERANGE | libc::EINVAL))
        }
        // What aya's attempt by netlink ends with, after the kernel found a link invalid.
        ProgramError::XdpError(_) => true,
        _ => false,
    }
}

fn tcx(object: &mut Object, interface: &str, name: &'static str, hook: Hook) -> Result<Attached, KernelError> {
    let direction = if hook == Hook::TcxIngress { TcAttachType::Ingress } else { TcAttachType::Egress };
    let program = object.classifier(name)?;
    let link = program
        // First: nothing before it may redirect a packet past the judge.
        .attach_with_options(interface, direction, TcAttachOptions::TcxOrder(LinkOrder::first()))
        .and_then(|id| program.take_link(id))
        .map_err(|source| refused(name, interface, hook, source))?;
    Ok(Attached { interface: interface.to_owned(), hook, program: name, _link: Link::Tcx(link) })
}

fn refused(program: &'static str, interface: &str, hook: Hook, source: ProgramError) -> KernelError {
    let errno = match &source {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    let advice = match errno {
        Some(libc::EBUSY) => ": another program is attached there; see `ip link show` or `bpftool net`, and detach it",
        Some(libc::EOPNOTSUPP) => ": its driver has no XDP; use --xdp auto",
        Some(libc::EPERM) => ": run as root, or with CAP_BPF and CAP_NET_ADMIN",
        _ => "",
    };
    KernelError::Attach { program, interface: interface.to_owned(), hook: hook.name(), advice, source }
}
