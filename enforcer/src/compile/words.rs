//! What a policy says before any rule: its words on what no rule names, and time-outs.

use enforcer_ebpf::abi::{Verdict, flow, pseudo};

use super::samplings::Samplings;
use crate::{
    net::image::Words,
    policy::{Action, Log, Policy, Timeouts},
};

/// The policy's words and switches.
pub fn words(policy: &Policy, samplings: &mut Samplings) -> Words {
    Words {
        strict_sources: policy.strict_sources,
        replies: policy.inbound.default == Action::Allow || !policy.inbound.rules.is_empty(),
        timeouts: timeouts(&policy.timeouts),
        pseudo: pseudo_verdicts(policy).map(|verdict| samplings.mark(verdict, Log::Denied)),
    }
}

/// The policy's words on what no rule names.
fn pseudo_verdicts(policy: &Policy) -> [Verdict; 16] {
    let mut words = [Verdict::new(Action::Drop, pseudo::FAULT); 16];
    let mut set = |rule: u32, action| words[rule as usize] = Verdict::new(policy.watched(action), rule);
    set(pseudo::DEFAULT, policy.lan.default);
    set(pseudo::ROUTER_DEFAULT, policy.router.default);
    set(pseudo::LOCAL, Action::Allow);
    set(pseudo::NON_IP_EXEMPT, Action::Allow);
    set(pseudo::NON_IP, policy.non_ip);
    set(pseudo::MALFORMED, policy.malformed);
    set(pseudo::FRAGMENT, policy.fragments);
    set(pseudo::SOURCE, Action::Drop);
    set(pseudo::REPLY, Action::Allow);
    set(pseudo::EARLIER, Action::Allow);
    set(pseudo::ICMP_ERROR, policy.icmp_errors);
    set(pseudo::SOURCE_ROUTE, Action::Drop);
    set(pseudo::UNLISTED, policy.unlisted);
    // By this the programs know whether there is a portal.
    set(pseudo::UNADMITTED, policy.portal.as_ref().map_or(Action::Allow, |portal| portal.action));
    words
}

/// Seconds by state.
fn timeouts(policy: &Timeouts) -> [u32; flow::STATES] {
    let Timeouts { tcp, tcp_opening, tcp_closing, udp, udp_opening, icmp, sctp, other } = *policy;
    let by_state = [
        (flow::TCP, tcp),
        (flow::TCP_OPENING, tcp_opening),
        (flow::TCP_CLOSING, tcp_closing),
        (flow::UDP, udp),
        (flow::UDP_OPENING, udp_opening),
        (flow::ICMP, icmp),
        (flow::SCTP, sctp),
        (flow::OTHER, other),
    ];
    let mut timeouts = [0; flow::STATES];
    by_state.into_iter().for_each(|(state, seconds)| timeouts[state as usize] = seconds);
    timeouts
}
