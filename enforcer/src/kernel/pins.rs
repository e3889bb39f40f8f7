//! Where links, programs and maps outlive the controller: a directory of a BPF file system.
//!
//! | in it | what |
//! |---|---|
//! | `links` | links, named `INDEX-HOOK-PROGRAM`: each keeps a program on an interface |
//! | `filters` | marks of clsact's filters, which are no links: `INDEX-HOOK-PROGRAM-PRIORITY-HANDLE` |
//! | `set-N` | programs and maps of a policy that was put in force as the Nth |
//! | `netns-INODE` | the mark of the network namespace that the interfaces are in |
//! | `state-ABI` | maps that outlive policies: what is remembered of connections, fragments and queries |

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use aya::programs::{
    ProgramInfo,
    links::{FdLink, LinkError, PinnedLink},
};
use enforcer_ebpf::abi::STATE_VERSION;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{self, FsType},
};

use super::{
    clsact::{Filter, Place},
    links::OpenLinks,
    shared,
};

/// The usual one.
pub const FOLDER: &str = "/sys/fs/bpf/enforcer";
/// Where systemd, `bpftool` and others mount it.
const USUAL: &str = "/sys/fs/bpf";
/// The folder of links.
const LINKS: &str = "links";
/// Where filters' marks are.
const FILTERS: &str = "filters";
/// What the mark of a network namespace begins with.
const NETNS: &str = "netns-";
/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPFFS: FsType = FsType(0xcafe_4a11);

/// Why pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// There is no BPF file system.
    #[error(
        "{0} is no folder in a BPF file system, which keeps programs beyond this process: name one such as {FOLDER} with --pins; where none is mounted, `mount -t bpf bpf {USUAL}`; under `ip netns exec`, which hides it, take `nsenter --net=/run/netns/NAME`"
    )]
    NoBpffs(PathBuf),
    /// Somebody else is there.
    #[error("another controller keeps its programs in {0}: stop it, or name another folder with --pins")]
    Taken(PathBuf),
    /// They are about interfaces of another network namespace.
    #[error(
        "what is kept in {folder} is on interfaces of another network namespace, net:[{inode}]: run this there (`nsenter --net=/run/netns/NAME`); if that namespace is gone, remove {folder}", folder = folder.display()
    )]
    Elsewhere {
        /// The directory.
        folder: PathBuf,
        /// The namespace's number, as `/proc/PID/ns/net` shows it.
        inode: String,
    },
    /// A filter stays.
    #[error("cannot take the filter of {0} off its interface; see `tc filter`")]
    Filter(PathBuf, #[source] io::Error),
    /// The directory cannot be used.
    #[error("cannot use {0} for pins")]
    Io(PathBuf, #[source] io::Error),
}

/// The directory, locked against other controllers for as long as this value lives.
pub struct Pins {
    folder: PathBuf,
    /// The number that a set had last.
    last: AtomicU32,
    /// When the controller before signed last, by the system's clock.
    signed: SystemTime,
    /// Whether this one has.
    signs: AtomicBool,
    lock: File,
}

impl Pins {
    /// Makes the directory if it is not there, for its owner alone, and locks it.
    ///
    /// # Errors
    /// If that cannot be done, or another controller has it.
    pub fn open(folder: &Path) -> Result<Self, PinsError> {
        if !is_place(folder) {
            return Err(PinsError::NoBpffs(folder.to_owned()));
        }
        let refused = |error| PinsError::Io(folder.to_owned(), error);
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(folder).map_err(refused)?;
        let lock = File::open(folder).map_err(refused)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => PinsError::Taken(folder.to_owned()),
            TryLockError::Error(error) => refused(error),
        })?;
        // Before anything is made in it.
        let signed = lock.metadata().and_then(|found| found.modified()).map_err(refused)?;
        let pins =
            Self { folder: folder.to_owned(), last: AtomicU32::new(0), signed, signs: AtomicBool::new(false), lock };
        make(&pins.links()).and_then(|()| make(&pins.state())).map_err(refused)?;
        Ok(pins)
    }

    /// Leaves word in the folder that a controller is alive: its time outlives a crash, and ends with the programs.
    pub fn sign(&self) {
        self.signs.store(true, Ordering::Relaxed);
        let _ = self.lock.set_modified(SystemTime::now());
    }

    /// How long ago the controller before signed last.
    #[must_use]
    pub fn since_signed(&self) -> Duration {
        self.signed.elapsed().unwrap_or_default()
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where links are.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        Self::links_of(&self.folder)
    }

    /// The same in a folder that another controller may have.
    #[must_use]
    pub fn links_of(folder: &Path) -> PathBuf {
        folder.join(LINKS)
    }

    /// Whether another folder is about interfaces of this network namespace.
    #[must_use]
    pub fn are_here_too(folder: &Path) -> bool {
        own_netns().is_ok_and(|own| folder.join(format!("{NETNS}{own}")).exists())
    }

    /// Where filters' marks are; only made for the first one.
    pub(super) fn filters_folder(&self) -> PathBuf {
        self.folder.join(FILTERS)
    }

    /// Filters that were made, whatever became of them.
    pub fn filters(&self) -> Vec<Filter> {
        filters_in(&self.filters_folder())
    }

    /// Where maps are that outlive policies.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join(format!("state-{STATE_VERSION}"))
    }

    /// Removes maps that outlive policies but are not as this version wants them; which these are.
    #[must_use]
    pub fn fit(&self, snoops: bool) -> Vec<&'static str> {
        shared::fit(&self.state(), &shared::shapes(snoops))
    }

    /// Where programs and maps of a set are.
    #[must_use]
    pub fn set(&self, number: u32) -> PathBuf {
        self.folder.join(format!("set-{number}"))
    }

    /// Numbers of the sets there are, in order.
    #[must_use]
    pub fn sets(&self) -> Vec<u32> {
        // No controller lives long enough for higher ones.
        let number = |(number, _): (String, _)| number.parse().ok().filter(|&number| number < u32::MAX / 2);
        let mut sets: Vec<u32> = self.entries("set-").filter_map(number).collect();
        sets.sort_unstable();
        sets
    }

    /// Makes the directory of a new set, and gives its number.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn new_set(&self) -> Result<u32, PinsError> {
        // Also that of one that was given up is not used again: what outlives sets knows them by it.
        let last = self.sets().last().copied().unwrap_or(0).max(self.last.load(Ordering::Relaxed));
        let number = last + 1;
        self.last.store(number, Ordering::Relaxed);
        let path = self.set(number);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| number).map_err(|error| PinsError::Io(path, error))
    }

    /// Indices of the interfaces that programs are on.
    #[must_use]
    pub fn interfaces(&self) -> BTreeSet<u32> {
        let pins = fs::read_dir(self.links()).into_iter().flatten().filter_map(Result::ok);
        let links: Vec<FdLink> = pins.filter_map(|pin| Some(PinnedLink::from_pin(pin.path()).ok()?.into())).collect();
        let open = OpenLinks::read();
        let links = links.iter().filter_map(|link| open.interface(link));
        let is_there = |filter: &Filter| filter.place().is_ok_and(|place| place != Place::Gone);
        links.chain(self.filters().into_iter().filter(is_there).map(|filter| filter.index())).collect()
    }

    /// Notes that they are in this process's network namespace.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn are_here(&self) -> Result<(), PinsError> {
        let refused = |error| PinsError::Io(self.folder.clone(), error);
        let own = self.folder.join(format!("{NETNS}{}", own_netns().map_err(refused)?));
        self.netns()
            .filter(|(_, path)| *path != own)
            .try_for_each(|(_, path)| fs::remove_dir(path))
            .map_err(refused)?;
        match DirBuilder::new().mode(0o700).create(own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(refused(error)),
            _ => Ok(()),
        }
    }

    /// Refuses to go on if they are in another one, where an interface's index is another interface's; unless they are on no interface any more. Of
    /// filters, that could only be told there.
    ///
    /// # Errors
    /// If so, or if that cannot be told.
    pub fn must_be_here(&self) -> Result<(), PinsError> {
        if self.interfaces().is_empty() && self.filters().is_empty() {
            return Ok(());
        }
        let own = own_netns().map_err(|error| PinsError::Io(self.folder.clone(), error))?.to_string();
        match self.netns().map(|(inode, _)| inode).find(|inode| *inode != own) {
            Some(inode) => Err(PinsError::Elsewhere { folder: self.folder.clone(), inode }),
            None => Ok(()),
        }
    }

    fn netns(&self) -> impl Iterator<Item = (String, PathBuf)> {
        self.entries(NETNS)
    }

    /// Numbers of the programs that links and filters have on interfaces.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn running(&self) -> Result<Vec<u32>, PinsError> {
        Self::running_of(&self.folder)
    }

    /// The same of a folder that a controller may have.
    ///
    /// # Errors
    /// Likewise: who is not root may not look.
    pub fn running_of(folder: &Path) -> Result<Vec<u32>, PinsError> {
        let refused = |error| PinsError::Io(folder.to_owned(), error);
        let links = match fs::read_dir(Self::links_of(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            links => links.and_then(Iterator::collect).map_err(refused)?,
        };
        let mut programs = Vec::new();
        for link in links {
            match PinnedLink::from_pin(link.path()).and_then(|link| FdLink::from(link).info()) {
                Ok(info) => programs.push(info.program_id()),
                Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(refused(error.io_error));
                }
                // No link, or not there any more.
                Err(_) => {}
            }
        }
        for filter in filters_in(&folder.join(FILTERS)) {
            programs.extend(filter.running().map_err(refused)?);
        }
        Ok(programs)
    }

    /// Whether one of a set's programs is among those with these numbers.
    #[must_use]
    pub fn runs(&self, set: u32, programs: &[u32]) -> bool {
        let pins = fs::read_dir(self.set(set)).into_iter().flatten().filter_map(Result::ok);
        pins.filter_map(|pin| ProgramInfo::from_pin(pin.path()).ok()).any(|info| programs.contains(&info.id()))
    }

    /// Where a set's program is, by its number.
    #[must_use]
    pub fn program(&self, number: u32) -> Option<PathBuf> {
        let pins = self.sets().into_iter().flat_map(|set| fs::read_dir(self.set(set)).into_iter().flatten());
        let paths = pins.filter_map(|pin| Some(pin.ok()?.path()));
        paths.into_iter().find(|path| ProgramInfo::from_pin(path).is_ok_and(|info| info.id() == number))
    }

    /// Removes a set's pins; what runs goes on.
    pub fn forget(&self, set: u32) {
        let _ = fs::remove_dir_all(self.set(set));
    }

    /// The same, unless one of its programs is on an interface, or may be.
    pub fn forget_unless_running(&self, set: u32) {
        if self.running().is_ok_and(|programs| !self.runs(set, &programs)) {
            self.forget(set);
        }
    }

    /// Removes maps that versions with other layouts left; which versions these are.
    pub fn forget_other_states(&self) -> Vec<String> {
        let own = STATE_VERSION.to_string();
        let others = self.entries("state-").filter(|(version, _)| *version != own);
        others.filter(|(_, path)| fs::remove_dir_all(path).is_ok()).map(|(version, _)| version).collect()
    }

    /// Removes a folder that keeps no program on any interface, as after a start that failed.
    pub fn remove_unused(folder: &Path) {
        let no_links = |pins: &Self| fs::read_dir(pins.links()).is_ok_and(|mut links| links.next().is_none());
        let is_unused = |pins: &Self| no_links(pins) && pins.filters().is_empty();
        if let Ok(pins) = Self::open(folder)
            && is_unused(&pins)
            && let Err(error) = pins.remove()
        {
            tracing::warn!("{error}");
        }
    }

    /// Removes everything: no program stays on any interface, but for links that somebody holds.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove(&self) -> Result<(), PinsError> {
        for filter in self.filters() {
            filter.remove().map_err(|error| PinsError::Filter(filter.mark().to_owned(), error))?;
        }
        // What nobody holds goes some time after its pin, and what is held here when this ends.
        let pins = fs::read_dir(self.links()).into_iter().flatten().filter_map(Result::ok);
        let _links: Vec<PinnedLink> = pins.filter_map(|pin| PinnedLink::from_pin(pin.path()).ok()).collect();
        let own = self.entries("set-").chain(self.entries("state-")).chain(self.netns()).map(|(_, path)| path);
        let filters = Some(self.filters_folder()).filter(|folder| folder.exists());
        let removed = [self.links()].into_iter().chain(filters).chain(own).try_for_each(fs::remove_dir_all);
        removed.and_then(|()| fs::remove_dir(&self.folder)).map_err(|error| PinsError::Io(self.folder.clone(), error))
    }

    fn entries(&self, prefix: &'static str) -> impl Iterator<Item = (String, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(move |entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.strip_prefix(prefix)?.to_owned(), entry.path()))
        })
    }
}

impl Drop for Pins {
    /// What a start that failed has made and removed is no sign of life.
    fn drop(&mut self) {
        if !self.signs.load(Ordering::Relaxed) {
            let _ = self.lock.set_modified(self.signed);
        }
    }
}

/// The number of this process's network namespace.
fn own_netns() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/net")?.ino())
}

/// Filters that were made, by a folder that has their marks.
fn filters_in(folder: &Path) -> Vec<Filter> {
    let pins = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    pins.filter_map(|pin| Filter::marked(folder, pin.file_name().to_str()?)).collect()
}

/// Mounts the BPF file system at its usual place, if a folder is to be there and it is not. Whether that could be done
/// shows when the folder is opened. Where a process may have mounts of its own, as by `ip netns exec`, nothing is: they
/// would take along what is pinned when it ends.
pub fn mount_for(folder: &Path) {
    if !is_bpffs(folder) && folder.starts_with(USUAL) && has_first_mounts() {
        let _ = mount(Some("bpf"), USUAL, Some("bpf"), MsFlags::empty(), Some("mode=0700"));
    }
}

/// Whether this process is known to see the mounts that the first one does; its are not told to everybody.
fn has_first_mounts() -> bool {
    let namespace = |of: &str| fs::metadata(format!("/proc/{of}/ns/mnt")).map(|found| found.ino());
    namespace("self").is_ok_and(|own| namespace("1").is_ok_and(|first| own == first))
}

/// Whether pins may be in a folder: below the root of a BPF file system, where others' are, too.
#[must_use]
pub fn is_place(folder: &Path) -> bool {
    folder.parent().is_some_and(is_bpffs)
}

/// Whether a folder is, or would be, in a BPF file system.
fn is_bpffs(folder: &Path) -> bool {
    let there = folder.ancestors().find(|path| path.exists());
    there.and_then(|path| statfs::statfs(path).ok()).is_some_and(|found| found.filesystem_type() == BPFFS)
}
