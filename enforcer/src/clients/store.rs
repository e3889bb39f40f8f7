//! Admissions on disk, so that they outlive a reboot, with which the kernel's clock begins anew.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Admission, Admissions, Client, Clock, NotAClient};
use crate::bounded;

/// The layout below; another number is another layout.
const VERSION: u32 = 1;
/// A larger file was not written here.
const MOST_BYTES: u64 = 64 << 20;
/// Another text after each boot.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// [`BOOT`] when it was saved.
    boot: String,
    /// The kernel's clock then, nanoseconds.
    saved: u64,
    clients: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    client: String,
    /// When it ends by the kernel's clock, nanoseconds.
    end: u64,
    /// The same by the wall's clock, as RFC 3339 has it.
    until: String,
    /// It was admitted in a boot before the file's, and by the wall's clock of then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    earlier: bool,
}

/// Why what was saved is not known.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The disk does not tell.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It was not written here.
    #[error("is damaged: {0}")]
    Damaged(String),
}

/// The file in a folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    boot: String,
}

impl Store {
    /// In a folder, which need not be there.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let boot = fs::read_to_string(BOOT).unwrap_or_default().trim_end().to_owned();
        Self { folder: folder.to_owned(), boot }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("clients.json")
    }

    /// What was saved last and has not ended. Nothing, if nothing ever was.
    ///
    /// # Errors
    /// If the file cannot be read, or was not written here.
    pub fn read(&self, now: &Clock) -> Result<Option<Admissions>, Unread> {
        let text = match bounded::file(&self.path(), MOST_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let bad = |why: &dyn ToString| Unread::Damaged(why.to_string());
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| bad(&error))?;
        if kept.version != VERSION {
            return Err(bad(&format!("it has layout {}, not {VERSION}", kept.version)));
        }
        let same_boot = !self.boot.is_empty() && kept.boot == self.boot;
        let admission = |Record { client, end, until, earlier }: Record| {
            let client: Client = client.parse().map_err(|error: NotAClient| bad(&error))?;
            let until: Timestamp = until.parse().map_err(|error: jiff::Error| bad(&error))?;
            if same_boot && !earlier {
                return Ok((client, Admission { end, until: None }));
            }
            // What was left when it was saved is the most: by the wall's clock, the machine was off meanwhile, or is not told the time yet.
            let left = end.saturating_sub(kept.saved);
            let most = if same_boot { end } else { now.monotonic.saturating_add(left) };
            Ok((client, Admission { end: now.to_monotonic(until).min(most), until: Some(until) }))
        };
        let clients: Vec<_> = kept.clients.into_iter().map(admission).collect::<Result<_, Unread>>()?;
        Ok(Some(Admissions::of(clients, now.monotonic)))
    }

    /// Saves all. Whoever reads finds this or what was before, never a part; also behind a power failure.
    ///
    /// # Errors
    /// If the disk is full, or the folder cannot be made.
    pub fn save(&self, admissions: &Admissions, now: &Clock) -> io::Result<()> {
        let record = |(client, admission): (Client, Admission)| Record {
            client: client.to_string(),
            end: admission.end,
            until: admission.until.unwrap_or_else(|| admission.ends_at(now)).to_string(),
            earlier: admission.until.is_some(),
        };
        let kept = Kept {
            version: VERSION,
            boot: self.boot.clone(),
            saved: now.monotonic,
            clients: admissions.iter().map(record).collect(),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut draft = tempfile::Builder::new()
            .prefix(".clients-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)?;
        draft.write_all(&serde_json::to_vec(&kept)?)?;
        draft.as_file().sync_all()?;
        draft.persist(self.path())?;
        // It is there for all who read, and to say that it is not would be wrong.
        if let Err(error) = File::open(&self.folder).and_then(|folder| folder.sync_all()) {
            tracing::warn!("who is admitted may not outlive a power failure: {error}");
        }
        Ok(())
    }

    /// Puts a file that cannot be used where the next one does not replace it; where that is.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn put_aside(&self) -> io::Result<PathBuf> {
        let aside = self.folder.join("clients.json.bad");
        fs::rename(self.path(), &aside)?;
        Ok(aside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn client(word: &str) -> Client {
        word.parse().expect("a client")
    }

    /// A folder, and a file in it of a boot that began at 1,000 s, saved at 1,100 s; clients are admitted until 1,400 s.
    fn saved() -> (tempfile::TempDir, Store, Admissions) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store { folder: folder.path().join("made"), boot: "one".into() };
        let mut admissions = Admissions::default();
        for word in ["10.1.0.5", "fd00:1::/64", "02:00:5e:10:00:01"] {
            admissions.admit(client(word), 400 * SECOND).expect("room");
        }
        store.save(&admissions, &Clock { wall: at(1_100), monotonic: 100 * SECOND }).expect("room");
        (folder, store, admissions)
    }

    #[test]
    fn what_is_saved_is_read() {
        let (_folder, store, admissions) = saved();
        // Whatever the wall's clock says meanwhile.
        for wall in [0, 1_150, 1_000_000] {
            let read = store.read(&Clock { wall: at(wall), monotonic: 150 * SECOND }).expect("a file");
            assert_eq!(read.as_ref(), Some(&admissions));
        }
        let mode = fs::metadata(store.path()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let nothing = Store { folder: store.folder.join("else"), ..store };
        assert_eq!(nothing.read(&Clock::now()).expect("nothing is wrong"), None);
    }

    #[test]
    fn after_a_reboot_the_walls_clock_decides_but_gives_no_more_than_was_left() {
        let (_folder, store, _) = saved();
        let store = Store { boot: "two".into(), ..store };
        // Five seconds after that boot.
        let read = |wall: i64| {
            let now = Clock { wall: at(wall), monotonic: 5 * SECOND };
            store.read(&now).expect("a file").expect("it was saved")
        };
        let ends = |read: &Admissions| -> Vec<_> {
            read.iter().map(|(_, Admission { end, until })| (end / SECOND, until)).collect()
        };
        let earlier = |end| (end, Some(at(1_400)));
        assert_eq!(ends(&read(1_300)), [earlier(105); 3]);
        assert_eq!(ends(&read(1_400)), []);
        // A clock that begins in the past.
        let mut admissions = read(0);
        assert_eq!(ends(&admissions), [earlier(305); 3]);
        // Saved again by that clock, it is no other: neither in this boot nor in the next.
        admissions.admit(client("10.1.0.6"), 605 * SECOND).expect("room");
        store.save(&admissions, &Clock { wall: at(0), monotonic: 5 * SECOND }).expect("room");
        assert_eq!(ends(&read(0)), [earlier(305), (605, None), earlier(305), earlier(305)]);
        // The clock was set while no controller ran.
        assert_eq!(ends(&read(1_300)), [earlier(105), (605, None), earlier(105), earlier(105)]);
        assert_eq!(ends(&read(1_400)), [(605, None)]);
        let next = Store { boot: "three".into(), ..store.clone() };
        let now = Clock { wall: at(0), monotonic: SECOND };
        let admissions = next.read(&now).expect("a file").expect("it was saved");
        assert_eq!(ends(&admissions), [earlier(301), (601, Some(at(600))), earlier(301), earlier(301)]);
    }

    #[test]
    fn a_damaged_file_is_told_and_can_be_put_aside() {
        let (_folder, store, admissions) = saved();
        let now = Clock { wall: at(1_100), monotonic: 100 * SECOND };
        for text in [
            "",
            "{",
            r#"{"version":2,"boot":"","saved":1,"clients":[]}"#,
            r#"{"version":1,"boot":"","saved":-1,"clients":[]}"#,
            r#"{"version":1,"boot":"","saved":1,"clients":[{"client":"x","end":1,"until":"2026-11-25T12:00:00Z"}]}"#,
            r#"{"version":1,"boot":"","saved":1,"clients":[{"client":"10.1.0.5","end":1,"until":""}]}"#,
        ] {
            fs::write(store.path(), text).expect("a file");
            let error = store.read(&now).expect_err(text);
            assert!(matches!(error, Unread::Damaged(_)), "{text}: {error}");
        }
        let aside = store.put_aside().expect("a file");
        store.save(&admissions, &now).expect("room");
        assert!(aside.is_file() && store.read(&now).is_ok());
        fs::remove_file(store.path()).expect("a file");
        fs::create_dir(store.path()).expect("a folder");
        let error = store.read(&now).expect_err("a folder is no file");
        assert!(matches!(error, Unread::Io(_)), "{error}");
    }
}
