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

use crate::{
    abi::{Action, Net, Verdict, pseudo},
    headers::{Ethernet, ethertype},
    icmp_error,
    parse::Sink as _,
    usual,
    verdict::{Judge, Origin},
};

/// Whether a denied frame is an ICMP error that passes all the same ([`icmp_error`]), with its network header at an offset.
#[inline(always)]
#[must_use]
pub fn is_passing_error(frame: &Frame, kind: u16, offset: usize, origin: Origin) -> bool {
    let tables = Tables::<false>;
    let passes = match kind {
        ethertype::IPV4 => icmp_error::ipv4(frame, offset).is_some_and(|quoted| quoted.may_pass(&tables, origin)),
        ethertype::IPV6 => icmp_error::ipv6(frame, offset).is_some_and(|quoted| quoted.may_pass(&tables, origin)),
        _ => false,
    };
    passes && budget::Budget::Errors.take()
}

/// Where the network header begins behind an untagged Ethernet header.
pub const UNTAGGED: usize = size_of::<Ethernet>();

/// The verdict on an untagged frame with IPv4 in it, if that is usual ([`usual::ipv4`]).
#[inline(always)]
#[must_use]
pub fn usual4(frame: &Frame, net: &Net, origin: Origin) -> Option<Verdict> {
    let packet = usual::ipv4(frame, UNTAGGED)?;
    Some(Judge { maps: &Tables::<true>, net, origin, admitted: false }.ip(&packet))
}

/// The same for IPv6.
#[inline(always)]
#[must_use]
pub fn usual6(frame: &Frame, net: &Net, origin: Origin) -> Option<Verdict> {
    let packet = usual::ipv6(frame, UNTAGGED)?;
    Some(Judge { maps: &Tables::<true>, net, origin, admitted: false }.ip(&packet))
}

/// Whether it was the rules, or their default, that denied a packet: what was refused before them stays refused.
#[inline(always)]
#[must_use]
pub fn is_rule(verdict: Verdict) -> bool {
    verdict.action() != Action::Allow
        && matches!(verdict.counter(), 0..=pseudo::ROUTER_DEFAULT | pseudo::UNADMITTED | pseudo::COUNT..)
}
