//! Policies that were in force, on disk: the one that a start goes on with, and those that one can go back to.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::selection::Confirmed;
use crate::{
    api::policies::{HistoryEntry, Reason},
    bounded,
    policy::Bundle,
};

/// A larger file was not written here.
const MOST_BYTES: u64 = 1 << 30;
/// So many are kept.
const KEPT: usize = 20;
/// The file with the number of the policy that the next start enforces.
const CURRENT: &str = "current.json";

/// A policy as it was put in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    entry: HistoryEntry,
    bundle: Bundle,
}

/// What a start goes on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Number of the policy.
    pub number: u32,
    /// SHA-256 of what the policy file was then, with mistakes or without: if it is another one now, the file counts. Nothing, if it could not be read in time.
    pub file_sha256: Option<String>,
    /// Where the controller's programs are pinned, so that `enforcer detach` for other pins does
    /// not forget this. Files of earlier versions do not have it.
    #[serde(default)]
    pub pins: Option<PathBuf>,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct History {
    folder: PathBuf,
    opened: Arc<File>,
    /// The last policy's number when this was opened.
    last: u32,
    /// Folders that were made then, the innermost first.
    made: Vec<PathBuf>,
}

impl History {
    /// In a folder of the state's, which is made if it is not there, for its owner alone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = folder(state);
        let made = folder.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let opened = Arc::new(File::open(&folder)?);
        let history = Self { folder, opened, last: 0, made };
        let last = history.numbers().last().copied().unwrap_or(0);
        Ok(Self { last, ..history })
    }

    /// Keeps other controllers out for as long as this or a clone lives.
    ///
    /// # Errors
    /// If one is there, or the file system has no locks.
    pub fn lock(&self) -> Result<(), TryLockError> {
        self.opened.try_lock()
    }

    /// Leaves all as it was before this was opened: nothing has come in force.
    pub fn give_up(&self) {
        self.numbers().into_iter().filter(|&number| number > self.last).for_each(|number| self.remove(number));
        // One that others have begun to use is not empty.
        self.made.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }

    /// All that are kept, the earliest first. What cannot be read is left out.
    #[must_use]
    pub fn entries(&self) -> Vec<HistoryEntry> {
        self.numbers().into_iter().filter_map(|number| Some(self.kept(number)?.entry)).collect()
    }

    /// A policy by its number.
    #[must_use]
    pub fn bundle(&self, number: u32) -> Option<Bundle> {
        Some(self.kept(number)?.bundle)
    }

    /// Keeps a policy that is not confirmed yet, and gives its number. Those before the last few are removed.
    ///
    /// # Errors
    /// If the disk is full, or the folder is gone.
    pub fn add(&self, bundle: &Bundle, reason: Reason, time: jiff::Timestamp) -> io::Result<u32> {
        let numbers = self.numbers();
        let number = numbers.last().map_or(1, |last| last.saturating_add(1));
        let entry = HistoryEntry {
            number,
            time: time.to_string(),
            policy: bundle.path.display().to_string(),
            sha256: bundle.sha256(),
            reason,
            confirmed: false,
        };
        self.keep(&Kept { entry, bundle: bundle.clone() })?;
        let current = self.current().map(|current| current.number);
        let old = numbers.iter().take((numbers.len() + 1).saturating_sub(KEPT));
        for old in old.filter(|&&old| Some(old) != current) {
            self.remove(*old);
        }
        Ok(number)
    }

    /// Forgets a policy.
    pub fn remove(&self, number: u32) {
        let _ = fs::remove_file(self.folder.join(format!("{number}.json")));
    }

    /// What a start is to go on with.
    #[must_use]
    pub fn current(&self) -> Option<Current> {
        self.read(CURRENT)
    }

    /// Says so; the policy is confirmed by that.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn set_current(&self, current: &Current) -> io::Result<()> {
        if let Some(mut kept) = self.kept(current.number).filter(|kept| !kept.entry.confirmed) {
            kept.entry.confirmed = true;
            self.keep(&kept)?;
        }
        self.write(CURRENT, current)
    }

    /// Returns the policy that a start is to go on with, with what is kept of it.
    #[must_use]
    pub fn confirmed(&self) -> Option<Confirmed> {
        let current = self.current()?;
        let kept = self.kept(current.number).map(|kept| (kept.entry, kept.bundle));
        Some(Confirmed { current, kept })
    }

    /// Lets the next start enforce the file of `--policy`. Earlier policies stay in the history.
    ///
    /// # Errors
    /// If the file that names the policy to go on with cannot be removed.
    pub fn forget_current(&self) -> io::Result<()> {
        remove_if_there(&self.folder.join(CURRENT))?;
        self.opened.sync_all()
    }

    /// Lets the next start in the folder `state` enforce the file of `--policy`, if the programs of
    /// the last controller there were in the folder `pins`. That controller must have ended.
    ///
    /// # Errors
    /// As [`Self::forget_current`].
    pub fn forget_current_of(state: &Path, pins: &Path) -> io::Result<()> {
        let path = folder(state).join(CURRENT);
        let text = match bounded::file(&path, MOST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        // A damaged file is ignored at a start, too.
        let current: Option<Current> = serde_json::from_slice(&text).ok();
        if current.is_some_and(|current| current.pins.is_none_or(|theirs| theirs == pins)) {
            remove_if_there(&path)?;
        }
        Ok(())
    }

    fn kept(&self, number: u32) -> Option<Kept> {
        self.read(&format!("{number}.json"))
    }

    fn keep(&self, kept: &Kept) -> io::Result<()> {
        self.write(&format!("{}.json", kept.entry.number), kept)
    }

    fn numbers(&self) -> Vec<u32> {
        let names = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut numbers: Vec<u32> = names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.folder.join(name);
        let text = match bounded::file(&path, MOST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            other => other,
        };
        let read = text.and_then(|text| Ok(serde_json::from_slice(&text)?));
        read.inspect_err(|error| tracing::warn!("{} is damaged, and passed over: {error}", path.display())).ok()
    }

    /// Whoever reads finds this or what was before, never a part; also behind a power failure.
    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut draft = tempfile::Builder::new()
            .prefix(".policy-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)?;
        draft.write_all(&serde_json::to_vec(value)?)?;
        draft.as_file().sync_all()?;
        draft.persist(self.folder.join(name))?;
        self.opened.sync_all()
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("policies")
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(text: &str) -> Bundle {
        Bundle { path: "p.toml".into(), files: [("p.toml".into(), text.into())].into() }
    }

    #[test]
    fn the_last_few_are_kept_and_the_current_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::open(folder.path()).expect("a history");
        assert_eq!((history.entries(), history.current()), (Vec::new(), None));
        let add = |number: u32| {
            let added = history.add(&bundle(&number.to_string()), Reason::Applied, jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(added.expect("room"), number);
        };
        add(1);
        let current = Current { number: 1, file_sha256: None, pins: None };
        history.set_current(&current).expect("room");
        (2..=KEPT as u32 + 5).for_each(add);
        let numbers: Vec<u32> = history.entries().iter().map(|entry| entry.number).collect();
        let mut wanted: Vec<u32> = (6..=KEPT as u32 + 5).collect();
        wanted.insert(0, 1);
        assert_eq!(numbers, wanted);
        assert_eq!(history.bundle(7), Some(bundle("7")));
        assert_eq!((history.bundle(3), history.current()), (None, Some(current)));
    }

    #[test]
    fn what_a_start_goes_on_with_is_confirmed() {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::open(folder.path()).expect("a history");
        for number in [1, 2] {
            history.add(&bundle("a"), Reason::Applied, jiff::Timestamp::UNIX_EPOCH).expect("room");
            history.set_current(&Current { number: 1, file_sha256: None, pins: None }).expect("room");
            assert!(history.entries().iter().all(|entry| entry.confirmed == (entry.number == 1)), "{number}");
        }
    }

    #[test]
    fn a_forgotten_policy_stays_in_the_history_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::open(folder.path()).expect("a history");
        history.add(&bundle("a"), Reason::Applied, jiff::Timestamp::UNIX_EPOCH).expect("room");
        let forget = |pins: &str| History::forget_current_of(folder.path(), Path::new(pins)).expect("to be removed");
        let set = |pins: Option<&str>| {
            let current = Current { number: 1, file_sha256: None, pins: pins.map(PathBuf::from) };
            history.set_current(&current).expect("room");
        };
        set(Some("/pins"));
        forget("/others");
        assert!(history.confirmed().is_some_and(|confirmed| confirmed.kept.is_some()));
        forget("/pins");
        forget("/pins");
        assert!(history.confirmed().is_none() && history.bundle(1).is_some());
        set(None);
        forget("/pins");
        assert_eq!(history.current(), None);
        set(Some("/pins"));
        history.forget_current().expect("to be removed");
        assert_eq!(history.current(), None);
        History::forget_current_of(&folder.path().join("nothing"), Path::new("/pins")).expect("nothing to do");
    }

    #[test]
    fn what_was_given_up_leaves_nothing_that_was_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("a/b");
        let history = History::open(&state).expect("a history");
        history.add(&bundle("a"), Reason::Started, jiff::Timestamp::UNIX_EPOCH).expect("room");
        history.give_up();
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        let history = History::open(&state).expect("a history");
        history.add(&bundle("a"), Reason::Started, jiff::Timestamp::UNIX_EPOCH).expect("room");
        let history = History::open(&state).expect("the same");
        history.add(&bundle("b"), Reason::Started, jiff::Timestamp::UNIX_EPOCH).expect("room");
        history.give_up();
        assert_eq!((history.bundle(1), history.bundle(2)), (Some(bundle("a")), None));
    }

    #[test]
    fn a_damaged_file_is_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::open(folder.path()).expect("a history");
        history.add(&bundle("a"), Reason::Started, jiff::Timestamp::UNIX_EPOCH).expect("room");
        fs::write(folder.path().join("policies/1.json"), "{").expect("a file");
        fs::write(folder.path().join("policies/current.json"), [0xff]).expect("a file");
        assert_eq!((history.entries(), history.current(), history.bundle(1)), (Vec::new(), None, None));
        assert_eq!(history.add(&bundle("b"), Reason::Started, jiff::Timestamp::UNIX_EPOCH).expect("room"), 2);
    }
}
