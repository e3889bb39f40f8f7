//! Programs on interfaces: they stay when this process ends, and another set's programs take their place at once.

use std::path::Path;

use aya::programs::ProgramError;

use super::{
    KernelError,
    clsact::{self, Filter},
    hook::{Hook, Tc, TcMode, XdpMode},
    links::{self, Link, OpenLinks, XDP},
    object::Object,
    pins::Pins,
    snoop,
};
use crate::net::facts::Interface;

/// A LAN's judge where there is no XDP, and what remembers connections from outside there.
const LAN_INGRESS: &str = "lan_ingress";
const LAN_EGRESS: &str = "lan_egress";
/// What remembers connections from outside at a WAN, and the judge of the gateway's own packets.
const WAN: [&str; 2] = ["wan_ingress", "wan_egress"];

/// A program on an interface. Dropping it leaves it there.
pub struct Attached {
    /// The interface's name when it was attached.
    pub interface: String,
    /// The hook.
    pub hook: Hook,
    /// The program's name.
    pub program: &'static str,
    /// The number of an earlier controller's program that was there before.
    earlier: Option<u32>,
    by: By,
}

enum By {
    Link(Link),
    Filter(Filter),
}

impl Attached {
    /// Puts the same program of another set in its place: a packet meets the one or the other. A filter that somebody took away is made anew.
    ///
    /// # Errors
    /// If the kernel refuses; what was there stays.
    pub fn replace(&mut self, object: &mut Object) -> Result<(), KernelError> {
        match &mut self.by {
            By::Link(link) => link.replace(object, &self.interface, self.program),
            By::Filter(filter) => filter.put(object.classifier(self.program)?, &self.interface),
        }
    }

    /// Attaches it again where its link was cut off; what hears DNS comes behind all others then.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn again(&mut self, object: &mut Object, pins: &Pins, on: &Interface) -> Result<(), KernelError> {
        match &mut self.by {
            By::Link(link) => {
                link.unpin();
                *link = Link::new(object, links::pin(pins, on, self.program, self.hook), on, self.program, self.hook)?;
                Ok(())
            }
            By::Filter(filter) => filter.put(object.classifier(self.program)?, &on.name),
        }
    }

    /// Whether it would outlive this process.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pin().exists()
    }

    /// Whether the interface is gone that it was put on; another one may have its index by now. Filters are looked for elsewhere.
    #[must_use]
    pub fn is_severed(&self, links: &OpenLinks) -> bool {
        match &self.by {
            By::Link(link) => link.is_severed(links),
            By::Filter(_) => false,
        }
    }

    /// Whether an earlier controller's program was there before.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.earlier.is_some()
    }

    /// The filter that it is by, unless it is by a link.
    #[must_use]
    pub const fn filter(&self) -> Option<&Filter> {
        match &self.by {
            By::Link(_) => None,
            By::Filter(filter) => Some(filter),
        }
    }

    /// Takes it off the interface; where an earlier controller's program was, that one comes back: its policy is not to end.
    pub fn undo(self, pins: &Pins) {
        match self.earlier {
            None => self.detach(),
            Some(earlier) => {
                let back = match &self.by {
                    By::Link(link) => link.put_back(earlier, pins),
                    By::Filter(filter) => filter.put_back(earlier, pins, &self.interface),
                };
                if let Err(error) = back {
                    tracing::error!("{}: the program of the controller before is not back: {error}", self.interface);
                }
            }
        }
    }

    /// Whether this is its pin.
    #[must_use]
    pub fn is_at(&self, pin: &Path) -> bool {
        self.pin() == pin
    }

    /// Takes it off the interface.
    pub fn detach(self) {
        match &self.by {
            By::Link(link) => link.unpin(),
            By::Filter(filter) => {
                if let Err(error) = filter.remove() {
                    tracing::error!("{}: {} is not off it: {error}", self.interface, self.program);
                }
            }
        }
    }

    fn pin(&self) -> &Path {
        match &self.by {
            By::Link(link) => &link.pin,
            By::Filter(filter) => filter.mark(),
        }
    }
}

/// Programs that the calls below attach to most devices; what others take is loaded when it shows.
#[must_use]
pub fn usual(mode: XdpMode, wans: bool, snoops: bool) -> Vec<&'static str> {
    let judge = if mode == XdpMode::Off { LAN_INGRESS } else { XDP[0] };
    let wan = if wans { &WAN[..] } else { &[] };
    let snoop = if snoops { &snoop::PROGRAMS[..] } else { &[] };
    [&[judge, LAN_EGRESS], wan, snoop].concat()
}

/// Attaches the programs of a LAN: the judge at its ingress, the recorder of inbound connections at its egress. An interface with no
/// link-layer header cannot carry XDP, so it goes straight to TC under `auto`.
///
/// # Errors
/// If the kernel refuses; what was attached by this call is detached again, and what it found there stays.
pub fn lan(
    object: &mut Object,
    pins: &Pins,
    on: &Interface,
    mode: XdpMode,
    tc: TcMode,
) -> Result<Vec<Attached>, KernelError> {
    let Tc { ingress, egress } = tc.hooks(&on.name)?;
    let generic = links::pin(pins, on, XDP[0], Hook::XdpGeneric);
    let judge = match mode {
        XdpMode::Native => xdp(object, pins, on, Hook::XdpNative)?,
        XdpMode::Generic => xdp(object, pins, on, Hook::XdpGeneric)?,
        XdpMode::Off => {
            let modes = [Hook::XdpNative, Hook::XdpGeneric];
            if let Some(there) = modes.into_iter().find(|&hook| links::pin(pins, on, XDP[0], hook).exists()) {
                return Err(KernelError::OtherMode { interface: on.name.clone(), there: there.name() });
            }
            put(object, pins, on, LAN_INGRESS, ingress)?
        }
        XdpMode::Auto if generic.exists() => xdp(object, pins, on, Hook::XdpGeneric)?,
        XdpMode::Auto if on.layer3 => put(object, pins, on, LAN_INGRESS, ingress)?,
        XdpMode::Auto => match xdp(object, pins, on, Hook::XdpNative) {
            Err(KernelError::Attach { source: ProgramError::SyscallError(error), .. })
                if error.io_error.raw_os_error() == Some(libc::EOPNOTSUPP) =>
            {
                put(object, pins, on, LAN_INGRESS, ingress)?
            }
            other => other?,
        },
    };
    both(pins, judge, || put(object, pins, on, LAN_EGRESS, egress))
}

/// Attaches the programs that hear DNS on a LAN. Called before [`lan`], whose judge then comes first: what it denies is not heard.
///
/// # Errors
/// As [`lan`].
pub fn snoop(object: &mut Object, pins: &Pins, on: &Interface, tc: TcMode) -> Result<Vec<Attached>, KernelError> {
    let Tc { ingress, egress } = tc.hooks(&on.name)?;
    let answers = put(object, pins, on, snoop::EGRESS, egress)?;
    both(pins, answers, || put(object, pins, on, snoop::INGRESS, ingress))
}

/// Attaches the programs of a WAN.
///
/// # Errors
/// As [`lan`].
pub fn wan(object: &mut Object, pins: &Pins, on: &Interface, tc: TcMode) -> Result<Vec<Attached>, KernelError> {
    let Tc { ingress, egress } = tc.hooks(&on.name)?;
    let recorder = put(object, pins, on, WAN[0], ingress)?;
    both(pins, recorder, || put(object, pins, on, WAN[1], egress))
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
    if links::pin(pins, on, XDP[0], other).exists() {
        return Err(KernelError::OtherMode { interface: on.name.clone(), there: other.name() });
    }
    put(object, pins, on, XDP[0], hook)
}

/// Attaches a program, or takes the link or filter by which an earlier controller's is there: that one stays until it is [replaced](Attached::replace).
fn put(
    object: &mut Object,
    pins: &Pins,
    on: &Interface,
    program: &'static str,
    hook: Hook,
) -> Result<Attached, KernelError> {
    let (by, earlier) = if hook.is_clsact() {
        let (filter, earlier) = clsact::earlier(pins, on, program, hook)?;
        if earlier.is_none() {
            filter.put(object.classifier(program)?, &on.name)?;
        }
        (By::Filter(filter), earlier)
    } else {
        let pin = links::pin(pins, on, program, hook);
        match Link::earlier(pin.clone(), hook)? {
            Some((link, earlier)) => (By::Link(link), Some(earlier)),
            None => (By::Link(Link::new(object, pin, on, program, hook)?), None),
        }
    };
    Ok(Attached { interface: on.name.clone(), hook, program, earlier, by })
}

/// Whether the interface of a link or filter is gone.
#[must_use]
pub fn is_gone(error: &KernelError) -> bool {
    let errno = match error {
        KernelError::Attach { source: ProgramError::SyscallError(error), .. } => error.io_error.raw_os_error(),
        KernelError::Attach { source: ProgramError::IOError(error), .. } => error.raw_os_error(),
        _ => None,
    };
    matches!(errno, Some(libc::ENOLINK | libc::ENODEV))
}
