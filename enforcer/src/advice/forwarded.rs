//! Names that DNS carries past a default that denies.

use super::Advice;
use crate::policy::{Action, Decision, Policy};

/// A warning if clients can resolve any name, though all that no rule allows is denied. A policy without
/// names needs no DNS of the gateway's: there is nothing to say of it.
pub fn names(policy: &Policy) -> Option<Advice> {
    let denies = matches!(policy.lan.default, Action::Drop | Action::Reject) && !policy.monitor;
    let forwards = policy.dns.unnamed == Decision::Forward && policy.named().next().is_some();
    (denies && forwards).then(|| {
        let message = "names that no rule has are forwarded: DNS can carry data past the default (a tunnel)";
        let help = "write unnamed = \"nxdomain\" in [dns], and give names that clients need to services";
        Advice::new(None, message.into(), help)
    })
}
