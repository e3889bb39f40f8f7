//! The kernel's side of [`crate::bytes`] and [`crate::maps`]: packet memory and BPF maps.

pub mod answer;
pub mod frame;
pub mod tables;

pub use frame::Frame;
pub use tables::{Tables, count, net, remember_reply};

use crate::{
    abi::{Net, Verdict},
    bytes::Bytes as _,
    headers::{Ethernet, ethertype},
    parse::Sink as _,
    usual,
    verdict::{Judge, Origin},
};

/// Where the network header begins behind an untagged Ethernet header.
pub const UNTAGGED: usize = size_of::<Ethernet>();

/// The verdict on a frame if it is a usual IPv4 one ([`usual::ipv4`]) without tags.
#[inline(always)]
#[must_use]
pub fn usual4(frame: &Frame, net: &Net, origin: Origin) -> Option<Verdict> {
    if u16::from_be(frame.read::<Ethernet>(0)?.kind) != ethertype::IPV4 {
        return None;
    }
    let packet = usual::ipv4(frame, UNTAGGED)?;
    Some(Judge { maps: &Tables::<true>, net, origin }.ip(&packet))
}

/// The same for IPv6.
#[inline(always)]
#[must_use]
pub fn usual6(frame: &Frame, net: &Net, origin: Origin) -> Option<Verdict> {
    if u16::from_be(frame.read::<Ethernet>(0)?.kind) != ethertype::IPV6 {
        return None;
    }
    let packet = usual::ipv6(frame, UNTAGGED)?;
    Some(Judge { maps: &Tables::<true>, net, origin }.ip(&packet))
}
