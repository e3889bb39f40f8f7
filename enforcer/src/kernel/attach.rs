//! Programs on interfaces, by BPF links that are pinned: they stay when this process ends, and another set's programs take their place at once.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode as AyaMode,
    links::{FdLink, LinkError, PinnedLink},
    tc::TcAttachOptions,
};
use aya_obj::programs::XdpAttachType;
use nix::net::if_::if_nametoindex;
use serde::Serialize;

use super::{KernelError, object::Object, pins::Pins, programs, snoop};
use crate::net::facts::Interface;

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
    /// Not by XDP: by TCX ingress, for drivers whose XDP is not to be trusted.
    Off,
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

    /// In a pin's name.
    const fn word(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::TcxIngress => "tcx-ingress",
            Self::TcxEgress => "tcx-egress",
        }
    }

    const fn is_xdp(self) -> bool {
        matches!(self, Self::XdpNative | Self::XdpGeneric)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The judge at a NIC's XDP hook, for frames in one buffer, and for frames in several.
const XDP: [&str; 2] = ["lan_xdp", "lan_xdp_frags"];

/// A program on an interface. Dropping it leaves it there.
pub struct Attached {
    /// The interface's name when it was attached.
    pub interface: String,
    /// The hook.
    pub hook: Hook,
    /// The program's name.
    pub program: &'static str,
    pin: PathBuf,
    /// The number of an earlier controller's program that was there before.
    earlier: Option<u32>,
    /// Keeps the link should its pin be lost.
    link: FdLink,
}

impl Attached {
    /// Puts the same program of another set in its place: a packet meets the one or the other.
    ///
    /// # Errors
    /// If the kernel refuses; what was there stays.
    pub fn replace(&mut self, object: &mut Object) -> Result<(), KernelError> {
        let mut again = |program| {
            // Of its own: on an error aya closes what it was given.
            let link = PinnedLink::from_pin(&self.pin);
            let link = link.map_err(|source| KernelError::Link { path: self.pin.clone(), source })?;
            update(object, program, self.hook, link.into())
                .map_err(|error| error.named(program, (&self.interface, None), self.hook, &self.pin))
        };
        self.link = if self.hook.is_xdp() { either(again)? } else { again(self.program)? };
        Ok(())
    }

    /// Whether it would outlive this process.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pin.exists()
    }

    /// Whether an earlier controller's program was there before.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.earlier.is_some()
    }

    /// Takes it off the interface; where an earlier controller's program was, that one comes back: its policy is not to end.
    pub fn undo(self, pins: &Pins) {
        match self.earlier {
            None => self.detach(),
            Some(earlier) => {
                if let Err(error) = self.put_back(earlier, pins) {
                    tracing::error!("{}: the program of the controller before is not back: {error}", self.interface);
                }
            }
        }
    }

    fn put_back(&self, earlier: u32, pins: &Pins) -> anyhow::Result<()> {
        let link = FdLink::from(PinnedLink::from_pin(&self.pin)?);
        if link.info()?.program_id() == earlier {
            return Ok(());
        }
        let program = pins.program(earlier).context("it is not pinned any more")?;
        // Taken from the program again, which would take it along.
        if self.hook.is_xdp() {
            let mut program = Xdp::from_pin(program, XdpAttachType::Interface)?;
            let id = program.attach_to_link(link.try_into()?)?;
            program.take_link(id)?;
        } else {
            let mut program = SchedClassifier::from_pin(program)?;
            let id = program.attach_to_link(link.try_into()?)?;
            program.take_link(id)?;
        }
        Ok(())
    }

    /// Whether this is its pin.
    #[must_use]
    pub fn is_at(&self, pin: &Path) -> bool {
        self.pin == pin
    }

    /// Takes it off the interface.
    pub fn detach(self) {
        self.unpin();
    }

    /// Removes the pin: what is attached is so only for as long as this value lives.
    pub fn unpin(&self) {
        let _ = fs::remove_file(&self.pin);
    }
}

/// Attaches the programs of a LAN: the judge at its ingress, the recorder of inbound connections at its egress. An interface with no
/// link-layer header cannot carry XDP, so it goes straight to TCX under `auto`.
///
/// # Errors
/// If the kernel refuses; what was attached by this call is detached again, and what it found there stays.
pub fn lan(object: &mut Object, pins: &Pins, on: &Interface, mode: XdpMode) -> Result<Vec<Attached>, KernelError> {
    let judge = match mode {
        XdpMode::Native => xdp(object, pins, on, Hook::XdpNative)?,
        XdpMode::Generic => xdp(object, pins, on, Hook::XdpGeneric)?,
        XdpMode::Auto if pin(pins, on, XDP[0], Hook::XdpGeneric).exists() => xdp(object, pins, on, Hook::XdpGeneric)?,
        XdpMode::Off => {
            let modes = [Hook::XdpNative, Hook::XdpGeneric];
            if let Some(there) = modes.into_iter().find(|&hook| pin(pins, on, XDP[0], hook).exists()) {
                return Err(KernelError::OtherMode { interface: on.name.clone(), there: there.name() });
            }
            put(object, pins, on, "lan_ingress", Hook::TcxIngress)?
        }
        XdpMode::Auto if on.layer3 => put(object, pins, on, "lan_ingress", Hook::TcxIngress)?,
        XdpMode::Auto => match xdp(object, pins, on, Hook::XdpNative) {
            Err(KernelError::Attach { source: ProgramError::SyscallError(error), .. })
                if error.io_error.raw_os_error() == Some(libc::EOPNOTSUPP) =>
            {
                put(object, pins, on, "lan_ingress", Hook::TcxIngress)?
            }
            other => other?,
        },
    };
    both(pins, judge, || put(object, pins, on, "lan_egress", Hook::TcxEgress))
}

/// Attaches the programs that hear DNS on a LAN. Called before [`lan`], whose judge then comes first: what it denies is not heard.
///
/// # Errors
/// As [`lan`].
pub fn snoop(object: &mut Object, pins: &Pins, on: &Interface) -> Result<Vec<Attached>, KernelError> {
    let egress = put(object, pins, on, snoop::EGRESS, Hook::TcxEgress)?;
    both(pins, egress, || put(object, pins, on, snoop::INGRESS, Hook::TcxIngress))
}

/// Attaches the programs of a WAN.
///
/// # Errors
/// As [`lan`].
pub fn wan(object: &mut Object, pins: &Pins, on: &Interface) -> Result<Vec<Attached>, KernelError> {
    let ingress = put(object, pins, on, "wan_ingress", Hook::TcxIngress)?;
    both(pins, ingress, || put(object, pins, on, "wan_egress", Hook::TcxEgress))
}

fn both(
    pins: &Pins,
    first: Attached,
    second: impl FnOnce() -> Result<Attached, KernelError>,
) -> Result<Vec<Attached>, KernelError> {
    match second() {
        Ok(second) => Ok(vec![first, second]),
        Err(error) => {
            first.undo(pins);
            Err(error)
        }
    }
}

/// XDP in one mode. A NIC has one XDP hook: what an earlier controller put there in the other mode stays, as taking it away would leave nothing there for a time.
fn xdp(object: &mut Object, pins: &Pins, on: &Interface, hook: Hook) -> Result<Attached, KernelError> {
    let other = if hook == Hook::XdpNative { Hook::XdpGeneric } else { Hook::XdpNative };
    if pin(pins, on, XDP[0], other).exists() {
        return Err(KernelError::OtherMode { interface: on.name.clone(), there: other.name() });
    }
    put(object, pins, on, XDP[0], hook)
}

/// Tries the program for frames in one buffer first: it is the faster one. Drivers that may hand over several buffers refuse it.
fn either(mut attempt: impl FnMut(&'static str) -> Result<FdLink, KernelError>) -> Result<FdLink, KernelError> {
    match attempt(XDP[0]) {
        Err(KernelError::Attach { source, .. }) if wants_frags(&source) => attempt(XDP[1]),
        other => other,
    }
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

/// By an interface's index, as names may change.
fn pin(pins: &Pins, on: &Interface, program: &str, hook: Hook) -> PathBuf {
    pins.links().join(format!("{}-{}-{program}", on.index, hook.word()))
}

/// Attaches a program, or takes the link by which an earlier controller's is there: that one stays until it is [replaced](Attached::replace).
fn put(
    object: &mut Object,
    pins: &Pins,
    on: &Interface,
    program: &'static str,
    hook: Hook,
) -> Result<Attached, KernelError> {
    let pin = pin(pins, on, program, hook);
    let there = match PinnedLink::from_pin(&pin) {
        Ok(link) => Some(FdLink::from(link)),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(KernelError::Link { path: pin, source }),
    };
    let attached =
        |link, earlier| Attached { interface: on.name.clone(), hook, program, pin: pin.clone(), earlier, link };
    if let Some(link) = there {
        let info = link.info().map_err(|source| KernelError::Link { path: pin.clone(), source })?;
        return Ok(attached(link, Some(info.program_id())));
    }
    let mut fresh = |program| {
        let made = match hook {
            Hook::XdpNative | Hook::XdpGeneric => xdp_link(object, program, &on.name, hook),
            Hook::TcxIngress | Hook::TcxEgress => tcx_link(object, program, &on.name, hook),
        };
        made.map_err(|error| error.named(program, (&on.name, on.xdp), hook, &pin))
    };
    let link = if hook.is_xdp() { either(fresh)? } else { fresh(program)? };
    // It may have been another's name by then: dropping the link detaches.
    if if_nametoindex(on.name.as_str()) != Ok(on.index) {
        let gone = ProgramError::UnknownInterface { name: on.name.clone() };
        return Err(Refused::Program(gone).named(program, (&on.name, on.xdp), hook, &pin));
    }
    let link = link.pin(&pin).map_err(|source| KernelError::Pin { path: pin.clone(), source })?;
    Ok(attached(link.into(), None))
}

/// Whether a link's interface is gone.
#[must_use]
pub fn is_gone(error: &KernelError) -> bool {
    let KernelError::Attach { source: ProgramError::SyscallError(error), .. } = error else { return false };
    error.io_error.raw_os_error() == Some(libc::ENOLINK)
}

fn xdp_link(object: &mut Object, program: &'static str, interface: &str, hook: Hook) -> Result<FdLink, Refused> {
    let mode = if hook == Hook::XdpGeneric { AyaMode::Skb } else { AyaMode::Driver };
    let program = object.xdp(program)?;
    let id = program.attach(interface, mode)?;
    // aya may have attached by netlink; such a program could neither be pinned nor replaced at once.
    Ok(program.take_link(id)?.try_into()?)
}

fn tcx_link(object: &mut Object, program: &'static str, interface: &str, hook: Hook) -> Result<FdLink, Refused> {
    let direction = if hook == Hook::TcxIngress { TcAttachType::Ingress } else { TcAttachType::Egress };
    let program = object.classifier(program)?;
    // First: nothing before it may redirect a packet past the judge.
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, direction, options)?;
    Ok(program.take_link(id)?.try_into()?)
}

fn update(object: &mut Object, program: &'static str, hook: Hook, link: FdLink) -> Result<FdLink, Refused> {
    if hook.is_xdp() {
        let program = object.xdp(program)?;
        let id = program.attach_to_link(link.try_into()?)?;
        return Ok(program.take_link(id)?.try_into()?);
    }
    let program = object.classifier(program)?;
    let id = program.attach_to_link(link.try_into()?)?;
    Ok(program.take_link(id)?.try_into()?)
}

/// Why a link could not be made or changed.
enum Refused {
    Kernel(KernelError),
    Program(ProgramError),
    Link(LinkError),
}

impl From<KernelError> for Refused {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl From<ProgramError> for Refused {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}

impl From<LinkError> for Refused {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl Refused {
    /// With where it was, and the XDP program that is there.
    fn named(
        self,
        program: &'static str,
        (interface, there): (&str, Option<u32>),
        hook: Hook,
        pin: &Path,
    ) -> KernelError {
        let source = match self {
            Self::Kernel(error) => return error,
            Self::Link(source) => return KernelError::Link { path: pin.to_owned(), source },
            Self::Program(source) => source,
        };
        let errno = match &source {
            ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
            _ => None,
        };
        let advice = match errno {
            Some(libc::EBUSY | libc::EEXIST) => {
                let which = there.map_or_else(|| "another program".into(), programs::called);
                format!(": {which} is attached there; see `bpftool net`, and detach it")
            }
            Some(libc::EOPNOTSUPP) => ": its driver has no XDP; use --xdp auto".into(),
            Some(libc::EPERM) => ": run as root, or with CAP_BPF and CAP_NET_ADMIN".into(),
            _ => String::new(),
        };
        KernelError::Attach { program, interface: interface.to_owned(), hook: hook.name(), advice, source }
    }
}
