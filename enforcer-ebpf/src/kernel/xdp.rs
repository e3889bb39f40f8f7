//! The whole way of a client's frame at a NIC's XDP hook.

use core::hint;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    programs::XdpContext,
};

use super::{
    Frame, Tables, answer,
    budget::Budget,
    clients, count,
    event::{self, About},
    is_passing_error, is_reply4, is_rule, net, tables, usual4, usual6, whole,
};
use crate::{
    abi::{Action, Net, Verdict, hook, pseudo},
    bytes::Bytes as _,
    headers::{Ethernet, ethertype},
    parse,
    verdict::{self, Origin, mac},
};

/// Not a usual frame: there is no such sampling.
const NONE: u32 = u32::MAX;

/// What becomes of it: judged, counted, told of and answered. `length` is the frame's if it may span several buffers.
#[inline(always)]
#[must_use]
pub fn client(ctx: &XdpContext, length: Option<usize>) -> u32 {
    let Some(net) = net() else { return xdp_action::XDP_ABORTED };
    // SAFETY: the context is the program's own; nothing here moves packet memory.
    let frame = unsafe { Frame::xdp(ctx.ctx, length) };
    let zone = verdict::zone(net, ctx.ingress_ifindex() as u32);
    if verdict::has_portal(net) {
        tables::note_admitted(is_admitted(ctx.ctx, frame.size()));
    }
    let verdict = usual4(&frame, net, Origin::Lan(zone), || is_reply(ctx.ctx, frame.size())).unwrap_or_else(|| {
        hint::cold_path();
        other(ctx, &frame, net, zone)
    });
    count(verdict, 1, frame.size());
    if verdict.passes_unseen() {
        return xdp_action::XDP_PASS;
    }
    if verdict.sampling() != 0 && !event::is_refused(verdict) {
        tell(ctx.ctx, verdict, frame.size());
    }
    match verdict.action() {
        Action::Allow | Action::Monitor => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
        Action::Reject if Budget::Answers.refuses() => xdp_action::XDP_DROP,
        Action::Reject => reject(ctx.ctx),
    }
}

/// Whatever is not usual IPv4.
#[inline(always)]
fn other(ctx: &XdpContext, frame: &Frame, net: &'static Net, zone: u8) -> Verdict {
    if frame.read::<Ethernet>(0).is_some_and(|link| link.kind == ethertype::IPV6.to_be()) {
        let (data, end, length) = frame.parts();
        // SAFETY: they are the frame's, which nothing has moved.
        let verdict = unsafe { usual_v6(data, end, length, zone, net) };
        if verdict != NONE {
            return Verdict(verdict);
        }
    }
    let verdict = unusual(ctx.ctx, frame.size(), zone);
    let error = verdict::word(net, pseudo::ICMP_ERROR);
    let passes = is_rule(verdict) && error.action().passes() && is_error(ctx.ctx, frame.size(), zone);
    if passes { error } else { verdict }
}

#[inline(always)]
fn ingress(ctx: *mut xdp_md) -> u32 {
    XdpContext::new(ctx).ingress_ifindex() as u32
}

/// Tells user space of the frame.
#[inline(never)]
fn tell(ctx: *mut xdp_md, verdict: Verdict, length: usize) {
    let about = About { verdict, interface: ingress(ctx), length: length as u32, kind: 0, hook: hook::LAN };
    // SAFETY: the context is the program's own.
    unsafe { event::xdp(ctx, about) };
}

/// Tells the sender at once, if that is possible and allowed.
#[inline(never)]
fn reject(ctx: *mut xdp_md) -> u32 {
    let ingress = ingress(ctx);
    let mac = net().map_or([0; 3], |net| mac(net, ingress));
    // SAFETY: the context is the program's own, and nothing of the packet is used behind this call.
    match unsafe { answer::xdp(ctx, mac) } {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_DROP,
    }
}

/// Usual IPv6 frames. Apart, so that IPv4 need not share its registers and stack.
///
/// # Safety
/// The first three are a frame's [`Frame::parts`], as for [`Frame::of_parts`].
#[inline(never)]
unsafe fn usual_v6(data: usize, end: usize, length: usize, zone: u8, net: &'static Net) -> u32 {
    // SAFETY: the caller's word.
    let frame = unsafe { Frame::of_parts(data, end, length) };
    usual6(&frame, net, Origin::Lan(zone)).map_or(NONE, |verdict| verdict.0)
}

/// Whether a usual frame with IPv4 in it, that the rules deny, is a reply to a connection from outside.
#[inline(never)]
fn is_reply(ctx: *mut xdp_md, length: usize) -> bool {
    // SAFETY: the context is the program's own; nothing here moves packet memory.
    is_reply4(&unsafe { Frame::xdp(ctx, Some(length)) })
}

/// Whether the portal has admitted the frame's sender.
#[inline(never)]
fn is_admitted(ctx: *mut xdp_md, length: usize) -> bool {
    // SAFETY: the context is the program's own; nothing here moves packet memory.
    let frame = unsafe { Frame::xdp(ctx, Some(length)) };
    parse::link(&frame).is_ok_and(|(kind, offset)| clients::admits(&frame, kind, offset, true))
}

/// Whatever is not usual, by the whole parser.
#[inline(never)]
fn unusual(ctx: *mut xdp_md, length: usize, zone: u8) -> Verdict {
    let Some(net) = net() else { return verdict::FAULT };
    // SAFETY: the context is the program's own; nothing here moves packet memory.
    let (frame, ctx) = unsafe { (Frame::xdp(ctx, Some(length)), &XdpContext::new(ctx)) };
    parse::ethernet(&frame, whole::judge(ctx, &Tables(net), Origin::Lan(zone)))
}

/// Whether a denied frame is an ICMP error that passes all the same.
#[inline(never)]
fn is_error(ctx: *mut xdp_md, length: usize, zone: u8) -> bool {
    // SAFETY: the context is the program's own; nothing here moves packet memory.
    let frame = unsafe { Frame::xdp(ctx, Some(length)) };
    parse::link(&frame).is_ok_and(|(kind, offset)| is_passing_error(&frame, kind, offset, Origin::Lan(zone)))
}
