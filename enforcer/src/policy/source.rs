//! A file's text, and where places in it are.

use std::{
    io::{ErrorKind, Read},
    path::Path,
};

use super::diagnostics::Diagnostics;
use crate::bounded;

/// A million prefixes are 25 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Why a policy file gave no policy.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    /// It is larger than any policy.
    #[error("{0} has more than the {MAX_BYTES} bytes that a policy may have")]
    TooLarge(String),
    /// It is no text.
    #[error("{0} is not UTF-8 text (at byte {1})")]
    NotText(String, usize),
    /// It lies where a policy may not include files from.
    #[error("{0} is outside the policy's folder; move it there, or allow its folder with --include-root")]
    Outside(String),
    /// It has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Diagnostics),
}

impl FileError {
    /// Returns the error without any line of the file, for readers without access to that file.
    #[must_use]
    pub fn without_source(&self) -> String {
        match self {
            Self::Mistakes(mistakes) => mistakes.without_source(),
            Self::Read(_, cause) => format!("{self}: {cause}"),
            _ => self.to_string(),
        }
    }
}

/// A text and what mistakes in it are reported for.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's name, for people.
    pub name: String,
    /// What is in it.
    pub text: String,
    line_ends: Vec<usize>,
}

impl Source {
    /// A text that may come from no file at all.
    #[must_use]
    pub fn new(name: &str, text: String) -> Self {
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        Self { name: name.to_owned(), text, line_ends }
    }

    /// A file, bounded while reading: a pipe has no length to ask for.
    ///
    /// # Errors
    /// If it cannot be read, is too large or no text.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let name = path.display().to_string();
        match std::fs::File::open(path) {
            Ok(file) => Self::read_from(&name, file),
            Err(error) => Err(FileError::Read(name, error)),
        }
    }

    /// What comes out of a reader.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_from(name: &str, from: impl Read) -> Result<Self, FileError> {
        let bytes = bounded::all(from, MAX_BYTES).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => FileError::TooLarge(name.to_owned()),
            _ => FileError::Read(name.to_owned(), error),
        })?;
        let not_text =
            |error: std::string::FromUtf8Error| FileError::NotText(name.to_owned(), error.utf8_error().valid_up_to());
        Ok(Self::new(name, String::from_utf8(bytes).map_err(not_text)?))
    }

    /// The line of a byte offset, from 1.
    #[must_use]
    pub fn line(&self, at: usize) -> u32 {
        self.line_ends.partition_point(|&end| end < at) as u32 + 1
    }
}
