//! Admissions on disk, so that they outlive a reboot, which begins the kernel's clock anew.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Admission, Admissions, Client, Clock, NotAClient};

/// The layout below; another number is another layout.
const VERSION: u32 = 1;
/// Another text after each boot.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Times are as RFC 3339 has them.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// [`BOOT`] when it was saved.
    boot: String,
    /// When that was.
    saved: String,
    clients: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    client: String,
    until: String,
    /// In nanoseconds of the kernel's clock, if it was admitted in the boot of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
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
        let text = match fs::read(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let bad = |why: &dyn ToString| Unread::Damaged(why.to_string());
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| bad(&error))?;
        if kept.version != VERSION {
            return Err(bad(&format!("it has layout {}, not {VERSION}", kept.version)));
        }
        let time = |word: &str| word.parse().map_err(|error: jiff::Error| bad(&error));
        let same_boot = !self.boot.is_empty() && kept.boot == self.boot;
        // A clock that begins in the past with each boot must not give anybody more time than was left.
        let then = Clock { wall: now.wall.max(time(&kept.saved)?), ..*now };
        let admission = |Record { client, until, end }: Record| {
            let client: Client = client.parse().map_err(|error: NotAClient| bad(&error))?;
            let until: Timestamp = time(&until)?;
            let admission = match end.filter(|_| same_boot) {
                Some(end) => Admission { end, until: None },
                None => Admission { end: then.kernel(until), until: Some(until) },
            };
            Ok((client, admission))
        };
        let clients: Vec<_> = kept.clients.into_iter().map(admission).collect::<Result<_, Unread>>()?;
        Ok(Some(Admissions::of(clients, now.kernel)))
    }

    /// Saves all. Whoever reads finds this or what was before, never a part; also behind a power failure.
    ///
    /// # Errors
    /// If the disk is full, or the folder cannot be made.
    pub fn save(&self, admissions: &Admissions, now: &Clock) -> io::Result<()> {
        let record = |(client, admission): (Client, Admission)| Record {
            client: client.to_string(),
            until: admission.until(now).to_string(),
            end: admission.until.is_none().then_some(admission.end),
        };
        let kept = Kept {
            version: VERSION,
            boot: self.boot.clone(),
            saved: now.wall.to_string(),
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
        store.save(&admissions, &Clock { wall: at(1_100), kernel: 100 * SECOND }).expect("room");
        (folder, store, admissions)
    }

    #[test]
    fn what_is_saved_is_read() {
        let (_folder, store, admissions) = saved();
        // Whatever the wall's clock says meanwhile.
        for wall in [0, 1_150, 1_000_000] {
            let read = store.read(&Clock { wall: at(wall), kernel: 150 * SECOND }).expect("a file");
            assert_eq!(read.as_ref(), Some(&admissions));
        }
        let mode = fs::metadata(store.path()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let nothing = Store { folder: store.folder.join("else"), ..store };
        assert_eq!(nothing.read(&Clock::now()).expect("nothing is wrong"), None);
    }

    #[test]
    fn after_a_reboot_the_walls_clock_decides() {
        let (_folder, store, _) = saved();
        let store = Store { boot: "two".into(), ..store };
        let ends = |wall: i64, store: &Store| {
            let read =
                store.read(&Clock { wall: at(wall), kernel: 5 * SECOND }).expect("a file").expect("it was saved");
            let ends: Vec<_> = read.iter().map(|(_, Admission { end, until })| (end / SECOND, until)).collect();
            (read, ends)
        };
        assert_eq!(ends(1_300, &store).1, [(105, Some(at(1_400))); 3]);
        assert_eq!(ends(1_400, &store).1, []);
        // It begins in the past: what was left when it was saved is the most.
        let (mut read, there) = ends(0, &store);
        assert_eq!(there, [(305, Some(at(1_400))); 3]);
        // Saved again in this boot, it is still the wall's clock that decides.
        read.admit(client("10.1.0.6"), 90 * SECOND).expect("room");
        store.save(&read, &Clock { wall: at(1_300), kernel: 10 * SECOND }).expect("room");
        let there = ends(1_350, &store).1;
        let restored = (55, Some(at(1_400)));
        assert_eq!(there, [restored, (90, None), restored, restored]);
    }

    #[test]
    fn a_damaged_file_is_told_and_can_be_put_aside() {
        let (_folder, store, admissions) = saved();
        let now = Clock::now();
        for text in [
            "",
            "{",
            r#"{"version":2,"boot":"","saved":"2026-11-25T12:00:00Z","clients":[]}"#,
            r#"{"version":1,"boot":"","saved":"","clients":[]}"#,
            r#"{"version":1,"boot":"","saved":"2026-11-25T12:00:00Z","clients":[{"client":"x","until":"2026-11-25T12:00:00Z"}]}"#,
        ] {
            fs::write(store.path(), text).expect("a file");
            let error = store.read(&now).expect_err(text);
            assert!(matches!(error, Unread::Damaged(_)), "{text}: {error}");
        }
        let aside = store.put_aside().expect("a file");
        store.save(&admissions, &now).expect("room");
        assert!(aside.exists() && store.read(&now).is_ok());
        fs::remove_file(store.path()).expect("a file");
        fs::create_dir(store.path()).expect("a folder");
        let error = store.read(&now).expect_err("a folder is no file");
        assert!(matches!(error, Unread::Io(_)), "{error}");
    }
}
