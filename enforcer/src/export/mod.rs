//! A policy in the words of other programs. Every exporter is a function of policy and catalogue to text, and gives the same text for the same input.
//!
//! What a program cannot be told is refused, or told narrower and warned of; nothing is opened that the policy does not open, but where a warning says so.

pub mod dnsmasq;
mod matching;
pub mod mobileconfig;
pub mod moment;
pub mod nftables;
pub mod pac;
mod ports;
pub mod rpz;
pub mod sets;
pub mod squid;
pub mod tickets;
pub mod wpad;

pub use moment::at;

/// What is written, and what to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// The file.
    pub text: String,
    /// What the file says otherwise than the policy, a sentence each.
    pub warnings: Vec<String>,
}

/// Why a policy cannot be said in the words of another program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Rules have schedules, and no time was named.
    #[error(
        "rule {rule:?} applies by schedule {schedule:?}, which cannot be exported: name the time whose rules are wanted, --at 2026-11-25T09:30+01:00"
    )]
    Scheduled {
        /// The first of them.
        rule: String,
        /// Its schedule.
        schedule: String,
    },
    /// More combinations of schedules than a policy may have.
    #[error("{0} combinations of schedules are more than a policy may have")]
    Moments(usize),
    /// A name that no interface can have.
    #[error(
        "{0:?} is no interface: names have 1 to 15 characters of ASCII, no spaces, quotes, slashes, colons or asterisks"
    )]
    Interface(String),
    /// Rules about the gateway's own packets, and nowhere to apply them.
    #[error(
        "the policy has rules for the gateway's own packets, which apply where they leave: name the interfaces, --wan wan0"
    )]
    NoWan,
    /// The policy names no proxy.
    #[error("the policy names no proxy: write [[proxy]] with address, port and services")]
    NoProxy,
    /// What XML cannot have; it is not shown.
    #[error("the proxy's user name or password has control characters, which no profile can have: write it as text")]
    Credentials,
    /// More than a line of a program's configuration takes.
    #[error(
        "{0:?} is in the sets of so many services that its line would be longer than {1} takes: let fewer rules name services with it"
    )]
    LongLine(String, &'static str),
    /// What cannot be in a file as it is.
    #[error("{0:?} is no {1}")]
    Word(String, &'static str),
}

/// Lines for people at the head of a file, and its warnings, behind a word that makes them comments.
fn head(mark: &str, lines: &[&str], warnings: &[String]) -> String {
    let warnings = warnings.iter().map(|warning| format!("{mark} Warning: {warning}\n"));
    lines.iter().map(|line| format!("{mark} {line}\n")).chain(warnings).collect()
}

/// A text on one line, for comments: without what would be another line or move a terminal's cursor.
fn on_a_line(text: &str) -> String {
    text.split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_one_line_that_moves_no_cursor() {
        assert_eq!(on_a_line("a\r\nb\u{1b}[2J\u{2028}c\u{0}\u{85} d\t"), "a b [2J c d");
    }
}
