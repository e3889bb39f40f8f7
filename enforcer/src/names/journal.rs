//! What was learned since the disk was last brought up to date, so that not even a crash forgets it.
//!
//! Records are appended as lines, without waiting for the disk: the system writes them should this process die. When all records are about to be saved, the file
//! is set aside, and removed when they are. Whoever loads reads both files; a record that is read twice does no harm.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::store::Record;

/// More is not appended before all records are saved again: then the disk has another problem.
const MOST_BYTES: u64 = 64 << 20;

/// The files in a folder.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    aside: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl Journal {
    /// In a folder that is there.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join("names.journal"), aside: folder.join("names.journal.old"), file: None, bytes: 0 }
    }

    /// Adds records behind all others.
    ///
    /// # Errors
    /// If the disk is full, or the folder is gone.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if self.bytes >= MOST_BYTES {
            return Ok(());
        }
        let mut text = Vec::new();
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
            self.bytes = file.metadata()?.len();
            self.file = Some(file);
            // Behind a line that a full disk or a crash cut off.
            text.push(b'\n');
        }
        for record in records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        self.bytes += text.len() as u64;
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(&text));
        if written.is_err() {
            self.file = None;
        }
        written
    }

    /// Sets aside what was appended, as all records are about to be saved. What was set aside before and not removed stays beside it.
    ///
    /// # Errors
    /// If the folder is gone.
    pub fn set_aside(&mut self) -> io::Result<()> {
        if self.aside.exists() {
            return Ok(());
        }
        self.file = None;
        self.bytes = 0;
        absent_is_well(fs::rename(&self.path, &self.aside))
    }

    /// Removes what was set aside, as all records are saved.
    ///
    /// # Errors
    /// If the folder is gone.
    pub fn remove_aside(&self) -> io::Result<()> {
        absent_is_well(fs::remove_file(&self.aside))
    }

    /// All records of both files, oldest first. A line that is none is left out.
    #[must_use]
    pub fn load(&self) -> Vec<Record> {
        let lines = [&self.aside, &self.path].into_iter().filter_map(|path| File::open(path).ok()).flat_map(|file| {
            let file = io::Read::take(file, 2 * MOST_BYTES);
            BufReader::new(file).split(b'\n').map_while(Result::ok)
        });
        lines.filter_map(|line| serde_json::from_slice(&line).ok()).collect()
    }
}

fn absent_is_well(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u8) -> Record {
        Record { name: format!("n{number}.example"), address: [203, 0, 113, number].into(), until: number.into() }
    }

    #[test]
    fn what_was_appended_is_there_until_it_is_saved() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path());
        assert_eq!(journal.load(), []);
        journal.set_aside().unwrap();
        journal.append(&[record(1), record(2)]).unwrap();
        // A save that fails: what is appended meanwhile lies behind.
        journal.set_aside().unwrap();
        journal.append(&[record(3)]).unwrap();
        journal.set_aside().unwrap();
        let all = [record(1), record(2), record(3)];
        assert_eq!(Journal::new(folder.path()).load(), all);
        journal.remove_aside().unwrap();
        assert_eq!(journal.load(), all[2..]);
        journal.set_aside().unwrap();
        journal.remove_aside().unwrap();
        assert_eq!((journal.load(), fs::read_dir(folder.path()).unwrap().count()), (Vec::new(), 0));
    }

    #[test]
    fn a_line_that_was_cut_off_costs_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(folder.path());
        journal.append(&[record(1), record(2)]).unwrap();
        let text = fs::read(&journal.path).unwrap();
        for length in 0..text.len() {
            fs::write(&journal.path, &text[..length]).unwrap();
            let mut journal = Journal::new(folder.path());
            journal.append(&[record(3)]).unwrap();
            let loaded = journal.load();
            assert_eq!(loaded.last(), Some(&record(3)), "{length}");
            assert!(loaded.len() > 1 || length < text.len() / 2, "{length}");
        }
        fs::write(&journal.path, [0xff, 0, b'\n', b'{', b'}', b'\n', b'[']).unwrap();
        assert_eq!(journal.load(), []);
    }
}
