//! Programs on an interface by BPF links, which their pins keep there.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    tc::TcAttachOptions,
};
use aya_obj::programs::XdpAttachType;
use nix::net::if_::if_nametoindex;

use super::{KernelError, hook::Hook, object::Object, pins::Pins, programs, snoop};
use crate::net::facts::Interface;

/// The judge at a NIC's XDP hook, for frames in one buffer, and for frames in several.
pub const XDP: [&str; 2] = ["lan_xdp", "lan_xdp_frags"];

/// A pinned link.
pub(super) struct Link {
    pub pin: PathBuf,
    hook: Hook,
    /// Keeps the link should its pin be lost.
    link: FdLink,
}

impl Link {
    /// The link by which an earlier controller's program is there, and the program's number.
    pub fn earlier(pin: PathBuf, hook: Hook) -> Result<Option<(Self, u32)>, KernelError> {
        let link = match PinnedLink::from_pin(&pin) {
            Ok(link) => FdLink::from(link),
            Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KernelError::Link { path: pin, source }),
        };
        let info = link.info().map_err(|source| KernelError::Link { path: pin.clone(), source })?;
        Ok(Some((Self { pin, hook, link }, info.program_id())))
    }

    /// Attaches a program where none of an earlier controller is.
    pub fn new(
        object: &mut Object,
        pin: PathBuf,
        on: &Interface,
        program: &'static str,
        hook: Hook,
    ) -> Result<Self, KernelError> {
        let mut fresh = |program| {
            let made =
                if hook.is_xdp() { xdp(object, program, &on.name, hook) } else { tcx(object, program, &on.name, hook) };
            made.map_err(|error| error.named(program, (&on.name, on.xdp), hook, &pin))
        };
        let link = if hook.is_xdp() { either(fresh)? } else { fresh(program)? };
        // It may have been another's name by then: dropping the link detaches.
        if if_nametoindex(on.name.as_str()) != Ok(on.index) {
            let gone = ProgramError::UnknownInterface { name: on.name.clone() };
            return Err(Refused::Program(gone).named(program, (&on.name, on.xdp), hook, &pin));
        }
        let link = link.pin(&pin).map_err(|source| KernelError::Pin { path: pin.clone(), source })?;
        Ok(Self { pin, hook, link: link.into() })
    }

    /// Puts the same program of another set in its place.
    pub fn replace(&mut self, object: &mut Object, interface: &str, program: &'static str) -> Result<(), KernelError> {
        let mut again = |program| {
            // Of its own: on an error aya closes what it was given.
            let link = PinnedLink::from_pin(&self.pin);
            let link = link.map_err(|source| KernelError::Link { path: self.pin.clone(), source })?;
            update(object, program, self.hook, link.into())
                .map_err(|error| error.named(program, (interface, None), self.hook, &self.pin))
        };
        self.link = if self.hook.is_xdp() { either(again)? } else { again(program)? };
        Ok(())
    }

    /// Puts an earlier program back, by its number.
    pub fn put_back(&self, earlier: u32, pins: &Pins) -> anyhow::Result<()> {
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

    /// Whether its interface is gone.
    pub fn is_severed(&self, links: &OpenLinks) -> bool {
        links.are_severed(&self.link)
    }

    /// Removes the pin: what is attached is so only for as long as this value lives.
    pub fn unpin(&self) {
        let _ = fs::remove_file(&self.pin);
    }
}

/// Indices of the interfaces that links are on, by the links' numbers, of all that this process has open. `/proc` tells them with the descriptors; aya
/// does not.
pub struct OpenLinks(HashMap<u32, u32>);

impl OpenLinks {
    /// As it is now.
    #[must_use]
    pub fn read() -> Self {
        let descriptors = fs::read_dir("/proc/self/fdinfo").into_iter().flatten().filter_map(Result::ok);
        Self(descriptors.filter_map(|descriptor| told(&fs::read_to_string(descriptor.path()).ok()?)).collect())
    }

    /// The index of the interface that a link is on, if that is there.
    pub(super) fn interface(&self, link: &FdLink) -> Option<u32> {
        self.0.get(&link.info().ok()?.id()).copied().filter(|&index| index != 0)
    }

    /// What cannot be told is taken to be well.
    fn are_severed(&self, link: &FdLink) -> bool {
        link.info().is_ok_and(|info| self.0.get(&info.id()) == Some(&0))
    }
}

/// The number of a link and the index of its interface, of what the kernel tells of a descriptor.
fn told(text: &str) -> Option<(u32, u32)> {
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
    Some((field("link_id")?, field("ifindex")?))
}

/// Removes pins of links whose interface is gone: another one may have its index.
pub fn forget_severed(pins: &Pins) {
    let pins = fs::read_dir(pins.links()).into_iter().flatten().filter_map(|pin| Some(pin.ok()?.path()));
    let links: Vec<(PathBuf, FdLink)> =
        pins.filter_map(|pin| Some((pin.clone(), PinnedLink::from_pin(pin).ok()?.into()))).collect();
    let open = OpenLinks::read();
    for (pin, _) in links.iter().filter(|(_, link)| open.are_severed(link)) {
        let _ = fs::remove_file(pin);
    }
}

/// By an interface's index, as names may change.
pub(super) fn pin(pins: &Pins, on: &Interface, program: &str, hook: Hook) -> PathBuf {
    pins.links().join(format!("{}-{}-{program}", on.index, hook.word()))
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

fn xdp(object: &mut Object, program: &'static str, interface: &str, hook: Hook) -> Result<FdLink, Refused> {
    let mode = if hook == Hook::XdpGeneric { XdpMode::Skb } else { XdpMode::Driver };
    let program = object.xdp(program)?;
    let id = program.attach(interface, mode)?;
    // aya may have attached by netlink; such a program could neither be pinned nor replaced at once.
    Ok(program.take_link(id)?.try_into()?)
}

fn tcx(object: &mut Object, name: &'static str, interface: &str, hook: Hook) -> Result<FdLink, Refused> {
    let direction = if hook == Hook::TcxIngress { TcAttachType::Ingress } else { TcAttachType::Egress };
    let program = object.classifier(name)?;
    // First: nothing before it may redirect a packet past the judge. What hears DNS comes behind.
    let order = if snoop::PROGRAMS.contains(&name) { LinkOrder::last() } else { LinkOrder::first() };
    let options = TcAttachOptions::TcxOrder(order);
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
        KernelError::Attach {
            program: program.into(),
            interface: interface.to_owned(),
            hook: hook.name(),
            advice,
            source,
        }
    }
}
