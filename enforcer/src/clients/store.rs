//! Admissions on disk, with the times at which they end by the wall's clock, so that they outlive a reboot.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Admissions, Client};

/// The layout below; another number is another layout.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    clients: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    client: String,
    /// As RFC 3339 has it.
    until: String,
}

/// The file in a folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// In a folder, which need not be there.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("clients.json")
    }

    /// What was saved last. Nothing, if nothing ever was.
    ///
    /// # Errors
    /// If the file cannot be read, or was not written here.
    pub fn read(&self) -> io::Result<Option<Vec<(Client, Timestamp)>>> {
        let text = match fs::read(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let Kept { version, clients } = serde_json::from_slice(&text)?;
        if version != VERSION {
            return Err(bad(format!("it has layout {version}, not {VERSION}")));
        }
        let record = |Record { client, until }: Record| {
            let client = client.parse().map_err(|error: super::NotAClient| bad(error.to_string()))?;
            Ok((client, until.parse().map_err(|error: jiff::Error| bad(error.to_string()))?))
        };
        clients.into_iter().map(record).collect::<io::Result<_>>().map(Some)
    }

    /// Saves all. Whoever reads finds this or what was before, never a part; also behind a power failure.
    ///
    /// # Errors
    /// If the disk is full, or the folder cannot be made.
    pub fn save(&self, admissions: &Admissions) -> io::Result<()> {
        let record =
            |(client, until): (Client, Timestamp)| Record { client: client.to_string(), until: until.to_string() };
        let kept = Kept { version: VERSION, clients: admissions.iter().map(record).collect() };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut draft = tempfile::Builder::new()
            .prefix(".clients-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)?;
        draft.write_all(&serde_json::to_vec(&kept)?)?;
        draft.as_file().sync_all()?;
        draft.persist(self.path())?;
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admissions() -> Admissions {
        let until = Timestamp::from_second(2_000_000_000).expect("a time");
        let clients = ["10.1.0.5", "fd00:1::/64", "02:00:5e:10:00:01"].map(|word| word.parse().expect("a client"));
        Admissions::of(clients.map(|client| (client, until)), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_saved_is_read_and_what_has_ended_is_not_admitted() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(&folder.path().join("made"));
        assert_eq!(store.read().expect("nothing is wrong"), None);
        store.save(&admissions()).expect("room");
        let read = store.read().expect("a file").expect("it was saved");
        assert_eq!(Admissions::of(read.clone(), Timestamp::UNIX_EPOCH), admissions());
        let later = Timestamp::from_second(2_000_000_000).expect("a time");
        assert_eq!(Admissions::of(read, later).count(), 0);
        let mode = fs::metadata(store.path()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path());
        for text in [
            "",
            "{",
            "{\"version\":2,\"clients\":[]}",
            "{\"version\":1,\"clients\":[{\"client\":\"x\",\"until\":\"1\"}]}",
        ] {
            fs::write(store.path(), text).expect("a file");
            store.read().expect_err(text);
        }
    }
}
