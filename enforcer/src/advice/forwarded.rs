//! A warning of DNS as a tunnel past a default that denies.

use super::Advice;
use crate::policy::{Action, Decision, Policy};

/// Returns a warning if the default denies and clients can resolve any name. A policy without names does not
/// need the gateway's DNS, and gets no warning.
pub fn names(policy: &Policy) -> Option<Advice> {
    let denies = matches!(policy.lan.default, Action::Drop | Action::Reject) && !policy.monitor;
    let forwards = policy.dns.unnamed == Decision::Forward && policy.named().next().is_some();
    (denies && forwards).then(|| {
        let message = "names that no rule has are forwarded: DNS can carry data past the default (a tunnel)";
        let help = "write unnamed = \"nxdomain\" in [dns], and give names that clients need to services";
        Advice::new(None, message.into(), help)
    })
}
