//! Names' addresses on disk, so that a start knows what was known before it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::journal::Journal;
use crate::bounded;

/// The layout below; another number is another layout.
const VERSION: u32 = 1;
/// A larger file was not written here.
const MOST_BYTES: u64 = 64 << 20;

/// An address of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// Until when it counts, in seconds since 1970.
    pub until: u64,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    addresses: Vec<Record>,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}; names are learned anew, and the file will be written over", path = path.display())]
pub struct Unreadable {
    path: PathBuf,
    problem: String,
}

/// The files in a folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    journal: Arc<Mutex<Journal>>,
}

impl Store {
    /// In a folder, which is made if it is not there, for its owner alone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned(), journal: Arc::new(Mutex::new(Journal::new(folder))) })
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes records that are new since all were saved. They outlive this process, but not a power failure.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn note(&self, records: &[Record]) -> io::Result<()> {
        self.journal().append(records)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("names.json")
    }

    /// To be called before all records are collected to be [saved](Self::save): what is noted from here on may not be among them.
    ///
    /// # Errors
    /// If the folder is gone.
    pub fn prepare(&self) -> io::Result<()> {
        self.journal().set_aside()
    }

    /// Writes all records: whoever reads finds these or those before, never a part.
    ///
    /// # Errors
    /// If the disk is full, or the folder is gone.
    pub fn save(&self, addresses: Vec<Record>) -> io::Result<()> {
        let text = serde_json::to_vec(&Kept { version: VERSION, addresses })?;
        let mut draft = tempfile::Builder::new()
            .prefix(".names-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)?;
        draft.write_all(&text)?;
        draft.as_file().sync_all()?;
        draft.persist(self.path())?;
        // The new name, too, is to outlive a power failure.
        File::open(&self.folder)?.sync_all()?;
        self.journal().remove_aside()
    }

    /// The records that were noted since all were saved.
    #[must_use]
    pub fn noted(&self) -> Vec<Record> {
        self.journal().load()
    }

    /// The records that were saved last; none if there never were any.
    ///
    /// # Errors
    /// If the file is no such file.
    pub fn load(&self) -> Result<Vec<Record>, Unreadable> {
        let unreadable = |problem: String| Unreadable { path: self.path(), problem };
        let text = match bounded::file(&self.path(), MOST_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if kept.version != VERSION {
            return Err(unreadable(format!("version {}, not {VERSION}", kept.version)));
        }
        Ok(kept.addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Record, Store};

    #[test]
    fn what_is_saved_is_loaded_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a/b")).unwrap();
        assert_eq!(store.load().unwrap(), []);
        let records: Vec<Record> = (1..300_u32)
            .map(|n| Record { name: format!("n{n}.example"), address: [203, 0, 113, n as u8].into(), until: n.into() })
            .collect();
        store.save(records[..1].to_vec()).unwrap();
        store.note(&records[..2]).unwrap();
        assert_eq!(store.noted(), records[..2]);
        store.prepare().unwrap();
        store.save(records.clone()).unwrap();
        assert_eq!(store.noted(), []);
        assert_eq!(store.load().unwrap(), records);
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(store.folder.clone()), mode(store.path())), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(&store.folder).unwrap().count(), 1, "a draft is left");
    }

    #[test]
    fn what_is_no_such_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let good = r#"{"version":1,"addresses":[{"name":"a.example","address":"203.0.113.1","until":7}]}"#;
        for garbage in
            ["", "{", "[]", "\u{0}\u{1}", &good[..40], &good.replace(":1,", ":2,"), &good.replace("203.", "x.")]
        {
            std::fs::write(store.path(), garbage).unwrap();
            let told = store.load().unwrap_err().to_string();
            assert!(told.contains("names.json: ") && told.contains("learned anew"), "{told}");
        }
        std::fs::write(store.path(), good).unwrap();
        assert_eq!(store.load().unwrap().len(), 1);
    }
}
