//! TOML walked with the place of every value, so that each mistake is told where it is and all are told at once.

use std::ops::Range;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::{diagnostics::Diagnostics, model::PortMatch, source::Source, words};
use crate::catalog::{Pattern, pattern::NotAPattern};

/// A value with its place.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// A list of prefixes as it is written.
#[derive(Debug, Default)]
pub struct Prefixes {
    /// Those that stand there.
    pub own: Vec<IpNet>,
    /// Names of variables, `$` left out.
    pub variables: Vec<(Range<usize>, String)>,
}

/// A text being read, and what was wrong with it and those before.
pub struct Reader<'a> {
    source: &'a Source,
    mistakes: Diagnostics,
}

impl<'a> Reader<'a> {
    /// At the start of a text.
    #[must_use]
    pub fn new(source: &'a Source) -> Self {
        Self { source, mistakes: Diagnostics::default() }
    }

    /// From here on, places are those of another text.
    pub fn turn_to(&mut self, source: &'a Source) {
        self.source = source;
    }

    /// Turns to a text and gives its root table; what a broken line says is not in it.
    pub fn parse(&mut self, source: &'a Source) -> DeTable<'a> {
        self.turn_to(source);
        let (root, errors) = DeTable::parse_recoverable(&source.text);
        for error in errors {
            self.wrong(error.span().unwrap_or(0..0), error.message().trim(), "the file is TOML: see https://toml.io");
        }
        root.into_inner()
    }

    /// The reader again, or all mistakes so far.
    ///
    /// # Errors
    /// If there are any.
    pub fn faultless(self) -> Result<Self, Diagnostics> {
        let Self { source, mistakes } = self;
        mistakes.or(Self::new(source))
    }

    /// Notes a mistake.
    pub fn wrong(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.mistakes.add(self.source, span, message, help);
    }

    /// The line of a byte offset, from 1.
    #[must_use]
    pub fn line(&self, at: usize) -> u32 {
        self.source.line(at)
    }

    /// The text that is being read.
    #[must_use]
    pub const fn source(&self) -> &'a Source {
        self.source
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

    /// Prefixes and variables of a list, and its names where there may be some. `any` is both families whole.
    pub fn prefixes(&mut self, value: &Value<'_>, key: &str, mut names: Option<&mut Vec<Pattern>>) -> Prefixes {
        let mut prefixes = Prefixes::default();
        for (span, word) in self.strings(value, key, "[\"17.0.0.0/8\"]") {
            if word == "any" {
                prefixes.own.extend([IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]);
            } else if let Some(variable) = word.strip_prefix('$') {
                prefixes.variables.push((span, variable.to_owned()));
            } else if let Some(names) = names.as_deref_mut().filter(|_| words::is_name(&word)) {
                match word.parse() {
                    Ok(name) => names.push(name),
                    Err(error) => {
                        self.wrong(
                            span,
                            format!("{word:?} is neither a name nor a prefix"),
                            NotAPattern::to_string(&error),
                        );
                    }
                }
            } else {
                match words::prefix(&word) {
                    Ok(prefix) => prefixes.own.push(prefix),
                    Err((message, help)) => self.wrong(span, message, help),
                }
            }
        }
        prefixes
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
        self.plain(value.span(), &name).then_some(name)
    }

    /// Whether a text can be a name; notes it if not.
    pub fn plain(&mut self, span: Range<usize>, name: &str) -> bool {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
        let good = (1..=64).contains(&name.len()) && name.chars().all(plain);
        if !good {
            self.wrong(span, format!("{name:?} is not a name"), "names are 1 to 64 letters, digits and - _ . /");
        }
        good
    }

    /// True or false; false without the key.
    pub fn flag(&mut self, table: &DeTable<'_>, key: &str) -> bool {
        let Some(value) = table.get(key) else { return false };
        value.get_ref().as_bool().unwrap_or_else(|| {
            let help = format!("write {key} = true or {key} = false, without quotes");
            self.wrong(value.span(), format!("{} where true or false is expected", article(value)), help);
            false
        })
    }

    /// A table of a key.
    pub fn table<'t, 'i>(&mut self, table: &'t DeTable<'i>, key: &str) -> Option<&'t DeTable<'i>> {
        let value = table.get(key)?;
        let inner = value.get_ref().as_table();
        if inner.is_none() {
            self.wrong(value.span(), format!("{key:?} is a table"), format!("write [{key}] and its keys below"));
        }
        inner
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

/// What kind of value it is: `an integer`.
pub fn article(value: &Value<'_>) -> String {
    let kind = value.get_ref().type_str();
    format!("{} {kind}", if kind.starts_with(['a', 'i']) { "an" } else { "a" })
}
