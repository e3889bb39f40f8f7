//! The kernel's side of [`crate::bytes`] and [`crate::maps`]: packet memory and BPF maps.

pub mod frame;
pub mod tables;

pub use frame::Frame;
pub use tables::{Tables, count, net, remember_reply};

use crate::{
    abi::{Net, Verdict},
    bytes::Bytes as _,
    headers::Ethernet,
    parse,
    verdict::{Judge, Origin},
};

/// The verdict on a usual frame, from its untagged Ethernet header on ([`parse::usual`]); `None` if it is none.
#[inline(always)]
pub fn usual(frame: &Frame, net: &Net, origin: Origin) -> Option<Verdict> {
    let kind = u16::from_be(frame.read::<Ethernet>(0)?.kind);
    let judge = Judge { maps: &Tables::<true>, net, origin };
    parse::usual(frame, kind, size_of::<Ethernet>(), judge).ok()
}
