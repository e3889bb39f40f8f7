//! Programs on an interface by filters of its clsact qdisc, as kernels before 6.6 have it. A filter holds its program by itself, whatever becomes of this
//! process, and takes another at once: `cls_bpf` puts the new one in the old one's place in a list that packets read under RCU. But it is no BPF link:
//! whoever may use `tc` can take it away, alone or with its qdisc.
//!
//! Beside links' pins there is an empty folder for each filter, whose name says which it is, from before the filter is made until it is gone; another,
//! `INDEX-clsact`, says that the interface's qdisc was made here. What program a filter has is asked of the kernel.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aya::programs::{ProgramError, SchedClassifier};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
    },
};

use super::{
    KernelError,
    hook::Hook,
    pins::Pins,
    snoop,
    tc::{Found, all, ask, filters, is_empty, on, parent, qdisc},
};
use crate::net::facts::Interface;

/// Judges and recorders are the first of all filters; what hears DNS comes behind them.
const PRIORITY: u16 = 1;
const SNOOP_PRIORITY: u16 = 2;
/// That of no other's filter, by chance: "enfo".
const HANDLE: u32 = 0x656e_666f;
const QDISC: &str = "clsact";

/// A filter of this project's, there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    index: u32,
    hook: Hook,
    program: String,
    priority: u16,
    handle: u32,
    mark: PathBuf,
}

/// How a filter is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Not at all: somebody has taken it away.
    Gone,
    /// Before all others.
    First,
    /// Behind another, which may end a packet's way.
    Behind(Found),
}

impl Filter {
    fn new(folder: &Path, index: u32, hook: Hook, program: &str) -> Self {
        let priority = if snoop::PROGRAMS.contains(&program) { SNOOP_PRIORITY } else { PRIORITY };
        Self::at(folder, index, hook, program, priority, HANDLE)
    }

    fn at(folder: &Path, index: u32, hook: Hook, program: &str, priority: u16, handle: u32) -> Self {
        let mark = folder.join(format!("{index}-{}-{program}-{priority}-{handle:x}", hook.word()));
        Self { index, hook, program: program.to_owned(), priority, handle, mark }
    }

    /// By the name of its mark.
    pub(super) fn marked(folder: &Path, name: &str) -> Option<Self> {
        let [index, "clsact", side, program, priority, handle] = name.split('-').collect::<Vec<_>>()[..] else {
            return None;
        };
        let hook = match side {
            "ingress" => Hook::ClsactIngress,
            "egress" => Hook::ClsactEgress,
            _ => return None,
        };
        let (index, handle) = (index.parse().ok()?, u32::from_str_radix(handle, 16).ok()?);
        Some(Self::at(folder, index, hook, program, priority.parse().ok()?, handle))
    }

    /// The interface's index.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Where it is said that there is such a filter.
    #[must_use]
    pub fn mark(&self) -> &Path {
        &self.mark
    }

    /// Whether it is there, and whether packets meet others before it.
    ///
    /// # Errors
    /// If netlink refuses.
    pub fn place(&self) -> io::Result<Place> {
        Ok(self.place_among(filters(self.index, self.hook)?))
    }

    /// A filter of DNS snooping is to be behind the judge, and behind others it hears no less.
    fn place_among(&self, met: Vec<Found>) -> Place {
        let Some(own) = met.iter().position(|found| self.is(found)) else { return Place::Gone };
        let before = met.into_iter().take(own).find(|found| found.handle != 0);
        before.filter(|_| self.priority == PRIORITY).map_or(Place::First, Place::Behind)
    }

    /// What an operator is told of one that is before it.
    #[must_use]
    pub fn overtaken(&self, interface: &str, other: &Found) -> String {
        format!(
            "{interface}: packets meet the filter {other} before {} ({}), and may be kept from it: give that one a higher priority number than {PRIORITY}",
            self.program, self.hook
        )
    }

    /// The number of the program that it has, if it is there.
    ///
    /// # Errors
    /// If netlink refuses.
    pub(super) fn running(&self) -> io::Result<Option<u32>> {
        Ok(self.there()?.and_then(|found| found.program))
    }

    fn there(&self) -> io::Result<Option<Found>> {
        Ok(filters(self.index, self.hook)?.into_iter().find(|found| self.is(found)))
    }

    fn is(&self, found: &Found) -> bool {
        found.kind == TcFilterBpf::KIND && (found.priority, found.handle) == (self.priority, self.handle)
    }

    /// Whether this one cannot be made because of another: filters of a priority are of one kind, and see the same packets.
    fn is_kept_out_by(&self, found: &Found) -> bool {
        let beside = found.kind == TcFilterBpf::KIND && found.protocol == all();
        found.priority == self.priority && (!beside || found.handle == self.handle)
    }

    /// Puts a program there, in the place of the one that is there, or anew.
    ///
    /// # Errors
    /// If the kernel refuses; what was there stays.
    pub(super) fn put(&self, program: &SchedClassifier, interface: &str) -> Result<(), KernelError> {
        let is_new = !self.mark.exists();
        make_folder(&self.mark).map_err(|error| self.refused(interface, error))?;
        self.send(program, interface).inspect_err(|_| {
            if is_new {
                self.forget();
            }
        })
    }

    fn send(&self, program: &SchedClassifier, interface: &str) -> Result<(), KernelError> {
        let fd = program.fd().map_err(|error| self.refused(interface, error))?.as_fd().as_raw_fd();
        let mut message = self.message();
        message.attributes.push(TcAttribute::Options(
            [
                TcFilterBpfOption::ProgFd(fd.cast_unsigned()),
                TcFilterBpfOption::ProgName(self.program.clone()),
                TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
            ]
            .map(TcOption::Bpf)
            .into(),
        ));
        let message = RouteNetlinkMessage::NewTrafficFilter(message);
        match ask(message.clone(), NLM_F_ACK) {
            // Nor is its qdisc, perhaps.
            Err(missing) if is_missing(&missing) => {
                self.make_qdisc(interface)?;
                ask(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop).map_err(|error| {
                    self.remove_qdisc();
                    // It was not missing: the program is what is invalid.
                    let is_there = error.raw_os_error() == Some(libc::EEXIST);
                    self.refused(interface, if is_there { missing } else { error })
                })
            }
            done => done.map(drop).map_err(|error| self.refused(interface, error)),
        }
    }

    /// Puts an earlier program back, by its number.
    pub(super) fn put_back(&self, earlier: u32, pins: &Pins, interface: &str) -> anyhow::Result<()> {
        if self.running()? != Some(earlier) {
            let pin = pins.program(earlier).context("it is not pinned any more")?;
            self.put(&SchedClassifier::from_pin(pin)?, interface)?;
        }
        Ok(())
    }

    /// Takes it away, and its qdisc if that was made for such filters and nobody else has one there.
    ///
    /// # Errors
    /// If netlink refuses; it is none if there is no such filter, or no such interface.
    pub fn remove(&self) -> io::Result<()> {
        match ask(RouteNetlinkMessage::DelTrafficFilter(self.message()), NLM_F_ACK) {
            Err(error) if !is_missing(&error) => return Err(error),
            _ => {}
        }
        self.forget();
        self.remove_qdisc();
        Ok(())
    }

    /// Forgets it.
    pub(super) fn forget(&self) {
        let _ = fs::remove_dir(&self.mark);
    }

    fn message(&self) -> TcMessage {
        let mut message = on(self.index, parent(self.hook));
        message.header.handle = self.handle.into();
        message.header.info = u32::from(self.priority) << 16 | u32::from(all());
        message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.into()));
        message
    }

    /// Makes the qdisc unless it is there. An older one, `ingress`, takes its place on an interface, and would take filters for egress as its own.
    fn make_qdisc(&self, interface: &str) -> Result<(), KernelError> {
        let there = qdisc(self.index).map_err(|error| self.refused(interface, error))?;
        match there.as_deref() {
            Some(QDISC) => return Ok(()),
            Some(other) => {
                return Err(KernelError::Qdisc { interface: interface.to_owned(), there: other.to_owned() });
            }
            None => {}
        }
        make_folder(&self.qdisc_mark()).map_err(|error| self.refused(interface, error))?;
        let made = RouteNetlinkMessage::NewQueueDiscipline(qdisc_message(self.index));
        ask(made, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop).map_err(|error| {
            let _ = fs::remove_dir(self.qdisc_mark());
            self.refused(interface, error)
        })
    }

    fn remove_qdisc(&self) {
        let (index, mark) = (self.index, self.qdisc_mark());
        let is_empty = |hook| is_empty(index, hook).unwrap_or(false);
        if mark.exists() && is_empty(Hook::ClsactIngress) && is_empty(Hook::ClsactEgress) {
            let _ = ask(RouteNetlinkMessage::DelQueueDiscipline(qdisc_message(index)), NLM_F_ACK);
            let _ = fs::remove_dir(mark);
        }
    }

    /// Where it is said that the interface's qdisc was made here.
    fn qdisc_mark(&self) -> PathBuf {
        self.mark.with_file_name(format!("{}-{QDISC}", self.index))
    }

    fn refused(&self, interface: &str, error: impl Into<ProgramError>) -> KernelError {
        let source = error.into();
        let errno = if let ProgramError::IOError(error) = &source { error.raw_os_error() } else { None };
        let advice = match errno {
            Some(libc::EPERM) => ": run as root, or with CAP_BPF and CAP_NET_ADMIN",
            Some(libc::ENOENT) => ": the kernel's modules sch_ingress and cls_bpf are needed",
            Some(libc::EOPNOTSUPP) => ": its filters are in a block that other interfaces share; see `tc qdisc`",
            _ => "",
        };
        KernelError::Attach {
            program: self.program.clone(),
            interface: interface.to_owned(),
            hook: self.hook.name(),
            advice: advice.into(),
            source,
        }
    }

    /// What is in its way.
    fn occupied(&self, interface: &str, found: &Found) -> KernelError {
        let side = self.hook.side();
        let one = if found.handle == 0 { String::new() } else { format!(" handle {:#x} {}", found.handle, found.kind) };
        KernelError::Occupied {
            interface: interface.to_owned(),
            there: found.to_string(),
            hook: self.hook.name(),
            delete: format!("tc filter del dev {interface} {side} pref {}{one}", found.priority),
        }
    }
}

/// The place of a program on an interface, and the number of an earlier controller's program if that is there.
///
/// # Errors
/// If somebody else's filter is there.
pub(super) fn earlier(
    pins: &Pins,
    on: &Interface,
    program: &str,
    hook: Hook,
) -> Result<(Filter, Option<u32>), KernelError> {
    let known = pins
        .filters()
        .into_iter()
        .find(|filter| (filter.index, filter.hook, filter.program.as_str()) == (on.index, hook, program));
    let was_there = known.is_some();
    let filter = known.unwrap_or_else(|| Filter::new(&pins.filters_folder(), on.index, hook, program));
    let there = filters(on.index, hook).map_err(|error| filter.refused(&on.name, error))?;
    match there.iter().filter(|found| filter.is_kept_out_by(found)).max_by_key(|found| found.handle) {
        Some(found) if filter.is(found) && found.program.is_some_and(|number| pins.program(number).is_some()) => {
            Ok((filter, found.program))
        }
        Some(found) => Err(filter.occupied(&on.name, found)),
        None => {
            if was_there {
                tracing::warn!("{}: somebody took {program} off {hook}; it was not there until now", on.name);
            }
            Ok((filter, None))
        }
    }
}

/// Refuses an interface with a filter of this project's that no pins keep: somebody removed them.
pub(super) fn refuse_lost(pins: &Pins, on: &Interface) -> Result<(), KernelError> {
    let known: Vec<Filter> = pins.filters().into_iter().filter(|filter| filter.index == on.index).collect();
    for hook in [Hook::ClsactIngress, Hook::ClsactEgress] {
        // What cannot be told is taken to be well.
        for found in filters(on.index, hook).unwrap_or_default() {
            if found.handle == HANDLE && !known.iter().any(|filter| filter.hook == hook && filter.is(&found)) {
                let name = found.name.as_deref().unwrap_or_default();
                return Err(Filter::new(&pins.filters_folder(), on.index, hook, name).occupied(&on.name, &found));
            }
        }
    }
    Ok(())
}

fn qdisc_message(index: u32) -> TcMessage {
    let mut message = on(index, TcHandle::CLSACT);
    message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    message.attributes.push(TcAttribute::Kind(QDISC.into()));
    message
}

/// Whether a filter, its qdisc or its interface is not there: what has no parent is invalid to the kernel.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV))
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests;
