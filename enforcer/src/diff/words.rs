//! What a policy says beside its rules.

use super::WordChange;
use crate::policy::{Policy, words};

/// All words that differ.
pub fn changes(old: &Policy, new: &Policy) -> Vec<WordChange> {
    let pairs = said(old).into_iter().zip(said(new));
    pairs
        .filter(|((_, old), (_, new))| old != new)
        .map(|((word, old), (_, new))| WordChange { word, old, new })
        .collect()
}

fn said(policy: &Policy) -> [(&'static str, String); 23] {
    let action = |action| words::name(action).to_owned();
    let seconds = |seconds: u32| format!("{seconds} s");
    let mut nat64: Vec<String> = policy.nat64.iter().map(ToString::to_string).collect();
    nat64.sort_unstable();
    let timeouts = &policy.timeouts;
    [
        ("sources", if policy.strict_sources { "strict" } else { "any" }.into()),
        ("fragments", action(policy.fragments)),
        ("malformed", action(policy.malformed)),
        ("non-ip", action(policy.non_ip)),
        ("unlisted", action(policy.unlisted)),
        ("icmp-errors", action(policy.icmp_errors)),
        ("monitor", policy.monitor.to_string()),
        ("nat64", if nat64.is_empty() { "none".into() } else { nat64.join(", ") }),
        ("time-out of tcp", seconds(timeouts.tcp)),
        ("time-out of tcp while it opens", seconds(timeouts.tcp_opening)),
        ("time-out of tcp while it closes", seconds(timeouts.tcp_closing)),
        ("time-out of udp", seconds(timeouts.udp)),
        ("time-out of udp before a reply", seconds(timeouts.udp_opening)),
        ("time-out of icmp", seconds(timeouts.icmp)),
        ("time-out of sctp", seconds(timeouts.sctp)),
        ("time-out of other protocols", seconds(timeouts.other)),
        ("least time of names' addresses", seconds(policy.names.floor)),
        ("longest time of names' addresses", seconds(policy.names.ceiling)),
        ("grace of names' addresses", seconds(policy.names.grace)),
        ("silence of connections to what names stood for", seconds(policy.names.idle)),
        ("lifetime of connections to what names stood for", seconds(policy.names.lifetime)),
        ("answer for names that are denied", words::answer(policy.dns.denied).into()),
        ("answer for names of no rule", words::answer(policy.dns.unnamed).into()),
    ]
}
