//! What is wrong with a file, where, and what would be right.

use std::{fmt, ops::Range};

use serde::Serialize;

use super::source::Source;

/// More than these are not told: the rest is likely to follow from them.
const MOST: usize = 20;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The offending text's length in characters, at least 1.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
    /// The line itself, cut to what a terminal shows.
    pub source: String,
}

/// All mistakes that were found in a file and in what it includes; never empty as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// By file, in the order of each.
    pub mistakes: Vec<Diagnostic>,
    /// How many more there were.
    pub untold: usize,
}

impl Diagnostics {
    /// Adds a mistake at a byte range of a text.
    pub(super) fn add(
        &mut self,
        Source { name, text, .. }: &Source,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.mistakes.len() == MOST {
            self.untold += 1;
            return;
        }
        let start = floor(text, span.start);
        let (before, rest) = text.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let source = text[line_start..].lines().next().unwrap_or_default();
        let shown = text[start..floor(text, span.end.max(start))].lines().next().unwrap_or_default();
        debug_assert!(rest.starts_with(shown));
        self.mistakes.push(Diagnostic {
            file: name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            width: shown.chars().count().max(1),
            message: cut(message.into()),
            help: cut(help.into()),
            source: source.to_owned(),
        });
    }

    /// Returns file, line and message of the first mistake, and the number of further mistakes: on
    /// one line, without help and without the line's text.
    pub(super) fn without_source(&self) -> String {
        let Some(Diagnostic { file, line, message, .. }) = self.mistakes.first() else { return String::new() };
        let more = match self.mistakes.len() - 1 + self.untold {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        format!("{file}:{line}: {message}{more}")
    }

    /// The value, or all mistakes, sorted.
    pub(super) fn or<T>(mut self, value: T) -> Result<T, Self> {
        if self.mistakes.is_empty() {
            return Ok(value);
        }
        self.mistakes.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        Err(self)
    }
}

/// As much of a text as is of use: a file may quote megabytes.
fn cut(mut text: String) -> String {
    const MOST: usize = 500;
    if text.len() > MOST {
        text.truncate(floor(&text, MOST));
        text.push('…');
    }
    text
}

/// The last character boundary at or before a byte offset.
fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl std::error::Error for Diagnostics {}

/// As compilers do: the place, the line with the text underlined, and the help.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Characters of a line that are shown around the mistake.
        const WINDOW: usize = 100;
        for (index, mistake) in self.mistakes.iter().enumerate() {
            let Diagnostic { file, line, column, width, message, help, source } = mistake;
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{file}:{line}:{column}: {message}")?;
            let skipped = (column - 1).saturating_sub(WINDOW / 2);
            let shown: String = source
                .chars()
                .skip(skipped)
                .take(WINDOW)
                .map(|letter| if letter.is_control() { ' ' } else { letter })
                .collect();
            let marks = "^".repeat((*width).min(WINDOW.saturating_sub(column - 1 - skipped)).max(1));
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            writeln!(f, "  {number} | {shown}")?;
            writeln!(f, "  {margin} | {}{marks}", " ".repeat(column - 1 - skipped))?;
            write!(f, "  {margin} = help: {help}")?;
        }
        if self.untold > 0 {
            write!(f, "\n{} more mistakes are not shown", self.untold)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_source_has_file_line_and_message_alone() {
        let source = Source::new("p.toml", "a = 1\npassword = hunter2\n".into());
        let mut mistakes = Diagnostics::default();
        mistakes.add(&source, 6..14, "unknown key", "remove it");
        assert!(mistakes.to_string().contains("hunter2"));
        assert_eq!(mistakes.without_source(), "p.toml:2: unknown key");
        mistakes.add(&source, 0..1, "another", "remove it");
        assert_eq!(mistakes.without_source(), "p.toml:2: unknown key (and 1 more)");
    }
}
