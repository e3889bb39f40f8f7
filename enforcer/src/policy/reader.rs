//! TOML walked with the place of every value, so that each mistake is told where it is and all are told at once.

use std::{ops::Range, path::Path};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::{diagnostics::Diagnostics, model::PortMatch, words};

/// A million prefixes are 25 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Why a policy file gave no policy.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    /// It is larger than any policy.
    #[error("{0} has {1} bytes; a policy has at most {MAX_BYTES}")]
    TooLarge(String, u64),
    /// It is no text.
    #[error("{0} is not UTF-8 text (at byte {1})")]
    NotText(String, usize),
    /// It has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Diagnostics),
}

/// A policy file's text, bounded while reading: a pipe has no length to ask for.
///
/// # Errors
/// If it cannot be read, is too large or no text.
pub fn read(path: &Path) -> Result<String, FileError> {
    use std::io::Read as _;
    let name = path.display().to_string();
    let refused = |error| FileError::Read(name.clone(), error);
    let file = std::fs::File::open(path).map_err(refused)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge(name, bytes.len() as u64));
    }
    String::from_utf8(bytes).map_err(|error| FileError::NotText(name, error.utf8_error().valid_up_to()))
}

/// A value with its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// A text being read, and what was wrong with it so far.
pub struct Reader<'a> {
    text: &'a str,
    mistakes: Diagnostics,
    line_ends: Vec<usize>,
}

impl<'a> Reader<'a> {
    /// Reads a text with `walk`, which gets its root table.
    ///
    /// # Errors
    /// All mistakes that can be told apart, in the order of the text.
    pub fn read<T>(
        name: &str,
        text: &'a str,
        walk: impl FnOnce(Self, &DeTable<'_>) -> (Self, T),
    ) -> Result<T, Diagnostics> {
        let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
        let mut reader = Self { text, mistakes: Diagnostics::new(name), line_ends };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reader.wrong(error.span().unwrap_or(0..0), error.message().trim(), "the file is TOML: see https://toml.io");
        }
        // What a broken line left out would be told as missing.
        if !reader.mistakes.mistakes.is_empty() {
            return Err(reader.mistakes.or(()).err().unwrap_or_default());
        }
        let (reader, value) = walk(reader, root.get_ref());
        reader.mistakes.or(value)
    }

    /// Notes a mistake.
    pub fn wrong(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.add(self.text, span, message, help);
    }

    /// The line of a byte offset, from 1.
    pub fn line(&self, at: usize) -> u32 {
        self.line_ends.partition_point(|&end| end < at) as u32 + 1
    }

    /// Notes keys that a table cannot have.
    pub fn known(&mut self, table: &DeTable<'_>, keys: &[&str]) {
        for key in table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref())) {
            let help = match words::nearest(key.get_ref(), keys.iter().copied()) {
                Some(near) => format!("did you mean {near:?}? Valid here: {}", keys.join(", ")),
                None => format!("valid here: {}", keys.join(", ")),
            };
            self.wrong(key.span(), format!("unknown key {:?}", key.get_ref()), help);
        }
    }

    /// The prefixes of a key, sorted, without repetition. `any` is both families whole.
    pub fn prefixes(&mut self, table: &DeTable<'_>, key: &str) -> Option<Vec<IpNet>> {
        let value = table.get(key)?;
        let mut prefixes = Vec::new();
        for (span, word) in self.strings(value, key, "[\"17.0.0.0/8\"]") {
            if word == "any" {
                prefixes.extend([IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]);
                continue;
            }
            match words::prefix(&word) {
                Ok(prefix) => prefixes.push(prefix),
                Err((message, help)) => self.wrong(span, message, help),
            }
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        Some(prefixes)
    }

    /// The ports of a list, sorted, without repetition.
    pub fn ports(&mut self, value: &Value<'_>) -> Vec<PortMatch> {
        let mut ports = Vec::new();
        for (span, word) in self.strings(value, "ports", "[\"tcp/443\"]") {
            match words::port(&word) {
                Ok(port) => ports.push(port),
                Err((message, help)) => self.wrong(span, message, help),
            }
        }
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// The table's name.
    pub fn name(&mut self, table: &DeTable<'_>, span: &Range<usize>, what: &str) -> Option<String> {
        let Some(value) = table.get("name") else {
            self.wrong(span.clone(), format!("{what} has no name"), "write name = \"apns\"");
            return None;
        };
        let name = self.string(value)?;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            self.wrong(
                value.span(),
                format!("{name:?} is not a name"),
                "names are 1 to 64 letters, digits and - _ . /",
            );
            return None;
        }
        Some(name)
    }

    /// A text.
    pub fn string(&mut self, value: &Value<'_>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(value.span(), format!("{} where text is expected", article(value)), "write it in quotes");
        }
        text
    }

    /// The texts of an array that must have some.
    pub fn strings(&mut self, value: &Value<'_>, key: &str, example: &str) -> Vec<(Range<usize>, String)> {
        let help = format!("write {key} = {example}");
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value.span(), format!("{key:?} is a list, not {}", article(value)), help);
            return Vec::new();
        };
        if array.is_empty() {
            self.wrong(value.span(), format!("{key:?} is empty"), format!("{help}, or leave the key out"));
        }
        array.iter().filter_map(|item| Some((item.span(), self.string(item)?))).collect()
    }

    /// The tables of an array of tables, with their places.
    pub fn tables<'t, 'i>(&mut self, table: &'t DeTable<'i>, key: &str) -> Vec<(Range<usize>, &'t DeTable<'i>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let help = format!("write [[{key}]] and its keys below");
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value.span(), format!("{key:?} is a list of tables, not {}", article(value)), help);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(array.len());
        for item in array {
            match item.get_ref().as_table() {
                Some(inner) => tables.push((item.span(), inner)),
                None => self.wrong(item.span(), format!("{} where a table is expected", article(item)), help.clone()),
            }
        }
        tables
    }
}

fn article(value: &Value<'_>) -> String {
    let kind = value.get_ref().type_str();
    format!("{} {kind}", if kind.starts_with(['a', 'i']) { "an" } else { "a" })
}
