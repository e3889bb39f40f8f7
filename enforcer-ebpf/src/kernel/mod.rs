//! The kernel's side of [`crate::bytes`] and [`crate::maps`]: packet memory and BPF maps.

pub mod answer;
pub mod budget;
pub mod clients;
pub mod event;
pub mod frame;
pub mod snoop;
pub mod tables;
pub mod whole;
pub mod xdp;

pub use frame::Frame;
pub use tables::{Tables, count, net, remember_flow};

use core::hint;

use crate::{
    abi::{Action, Net, Verdict, pseudo},
    headers::{Ethernet, Fixed as _, ethertype},
    icmp_error, maps,
    parse::Sink as _,
    usual,
    verdict::{self, Judge, Origin},
};

/// Whether a denied frame is an ICMP error that passes all the same ([`icmp_error`]), with its network header at an offset.
#[inline(always)]
#[must_use]
pub fn is_passing_error(frame: &Frame, kind: u16, offset: usize, origin: Origin) -> bool {
    let Some(net) = net() else { return false };
    let tables = Tables::<false>(net);
    let passes = match kind {
        ethertype::IPV4 => icmp_error::ipv4(frame, offset).is_some_and(|quoted| quoted.may_pass(&tables, origin)),
        ethertype::IPV6 => icmp_error::ipv6(frame, offset).is_some_and(|quoted| quoted.may_pass(&tables, origin)),
        _ => false,
    };
    passes && budget::Budget::Errors.take()
}

/// Where the network header begins behind an untagged Ethernet header.
pub const UNTAGGED: usize = Ethernet::END;

/// The verdict on a usual frame with IPv4 in it ([`usual::ipv4`]). `replies` asks [`is_reply4`] of the frame: what only this needs is read again, not kept until the verdict.
#[inline(always)]
#[must_use]
pub fn usual4(frame: &Frame, net: &'static Net, origin: Origin, replies: impl FnOnce() -> bool) -> Option<Verdict> {
    let packet = usual::ipv4(frame)?;
    let believed = verdict::is_plain_source(net, origin, packet.source);
    let judge = Judge { maps: &Tables::<true>(net), net, origin, believed, admitted: false, replies: false };
    let verdict = judge.ip(&packet);
    // The caller asks the same, which makes it one comparison.
    if !verdict.passes_unseen() && maps::cell(&net.replies) != 0 && is_rule(verdict) {
        hint::cold_path();
        if replies() {
            return Some(verdict::REPLY);
        }
    }
    Some(verdict)
}

/// Whether a usual frame with IPv4 in it is a reply ([`verdict::is_reply`]).
#[inline(always)]
#[must_use]
pub fn is_reply4(frame: &Frame) -> bool {
    let (Some(packet), Some(net)) = (usual::ipv4(frame), net()) else { return false };
    verdict::is_reply(&Tables::<true>(net), net, &packet)
}

/// The verdict on a usual frame with IPv6 in it ([`usual::ipv6`]).
#[inline(always)]
#[must_use]
pub fn usual6(frame: &Frame, net: &'static Net, origin: Origin) -> Option<Verdict> {
    let packet = usual::ipv6(frame)?;
    Some(Judge { maps: &Tables::<true>(net), net, origin, believed: false, admitted: false, replies: true }.ip(&packet))
}

/// Whether it was the rules, or their default, that denied a packet: what was refused before them stays refused.
#[inline(always)]
#[must_use]
pub fn is_rule(verdict: Verdict) -> bool {
    verdict.action() != Action::Allow
        && matches!(verdict.counter(), 0..=pseudo::ROUTER_DEFAULT | pseudo::UNADMITTED | pseudo::COUNT..)
}
