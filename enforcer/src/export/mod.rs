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

use crate::policy::Policy;

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
    /// The policy has a portal.
    #[error(
        "the policy has a portal, whose clients are admitted while enforcer runs, which {0} cannot be told: take [portal] out to export the rest"
    )]
    Portal(&'static str),
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

/// A policy without its portal, for programs that are about clients that are admitted; and a warning of that.
#[must_use]
pub fn admitted(mut policy: Policy) -> (Policy, Option<String>) {
    let warning = "clients are taken to be admitted by the portal: those that are not are kept from everything else by enforcer alone";
    policy.lan.rules.retain(|rule| !rule.closes());
    let portal = policy.portal.take();
    (policy, portal.map(|_| warning.into()))
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
    use crate::{
        catalog::Catalogs,
        export::{dnsmasq::Kind, nftables::Interfaces},
    };

    const PORTAL: &str = r#"
default = "drop"
[portal]
services = ["login"]
[[proxy]]
address = "10.1.0.5"
port = 3128
services = ["web"]
[[service]]
name = "login"
to = ["203.0.113.9"]
ports = ["tcp/443"]
[[service]]
name = "web"
to = ["www.example.org"]
ports = ["tcp/443"]
[[rule]]
name = "web"
action = "allow"
services = ["web"]
"#;

    #[test]
    fn a_portal_is_refused_where_packets_are_judged_and_told_elsewhere() {
        let policy = Policy::parse("p", PORTAL, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let interfaces = Interfaces { lans: vec!["lan0".into()], wans: Vec::new() };
        let refused = nftables::nftables(&policy, &interfaces).expect_err("admissions are not exported").to_string();
        assert!(refused.contains("nftables cannot be told: take [portal] out"), "{refused}");
        dnsmasq::dnsmasq(&policy, Kind::Nftables).expect_err("nor are they there");
        for export in [pac::pac(&policy).expect("there is a proxy"), squid::squid(&policy), rpz::rpz(&policy)] {
            let told = |warning: &String| warning.starts_with("clients are taken to be admitted");
            assert!(export.warnings.iter().any(told), "{:?}", export.warnings);
            assert!(!export.text.contains("not-admitted"), "{}", export.text);
        }
        let csv = tickets::csv(&policy).text;
        assert!(
            csv.contains(
                "clients,2,not-admitted,reject,any,,any,any,,\"while the client is not admitted, and is no proxy\",\n"
            ),
            "{csv}"
        );
        assert!(csv.contains("clients,1,portal,allow,any,login,203.0.113.9/32,tcp,443,,\n"), "{csv}");
        assert!(tickets::markdown(&policy).text.contains("| while the client is not admitted, and is no proxy |"));
    }

    #[test]
    fn a_comment_is_one_line_that_moves_no_cursor() {
        assert_eq!(on_a_line("a\r\nb\u{1b}[2J\u{2028}c\u{0}\u{85} d\t"), "a b [2J c d");
    }
}
