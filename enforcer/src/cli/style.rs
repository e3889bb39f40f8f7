//! How words are set off on a terminal. What is printed through [`super::print`] loses it where nobody would see colours, or where `NO_COLOR` says so.

use std::io::{self, IsTerminal as _};

use anstyle::{AnsiColor, Style};

/// Headings.
pub const HEADING: Style = Style::new().bold();
/// What is less important.
pub const FAINT: Style = Style::new().dimmed();
/// What is as it should be, and what passes.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What wants a look, and what would be denied.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// What is wrong, and what is denied.
pub const BAD: Style = AnsiColor::Red.on_default().bold();

/// Text in a style.
pub fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The style of `allow`, `drop`, `reject` and `monitor`.
pub fn of_action(action: &str) -> Style {
    match action {
        "allow" => GOOD,
        "monitor" => WARNING,
        "drop" | "reject" => BAD,
        _ => Style::new(),
    }
}

/// How many columns text takes: escape sequences take none.
pub fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).map(|part| part.chars().count()).sum()
}

/// The terminal's columns, if standard output is one.
pub fn columns() -> Option<usize> {
    let columns = io::stdout().is_terminal().then(ratatui::crossterm::terminal::size)?.ok()?.0;
    (columns > 0).then_some(columns.into())
}
