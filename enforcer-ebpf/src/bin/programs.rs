//! The programs on a gateway's interfaces.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the attribute macros' own wrapper functions have none")]

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    helpers::{bpf_skb_pull_data, generated::bpf_xdp_get_buff_len},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use enforcer_ebpf::{
    abi::{Action, Verdict, place, pseudo},
    kernel::{Frame, Tables},
    maps::Maps as _,
    parse::{self, Packet, Parsed},
    verdict::{self, Origin},
};

/// Clients' frames as a LAN's NIC receives them.
#[xdp]
pub fn lan_xdp(ctx: XdpContext) -> u32 {
    let length = (ctx.data_end() - ctx.data()) as u32;
    xdp(&ctx, length)
}

/// The same on a NIC whose frames span buffers (jumbo frames, receive aggregation).
#[xdp(frags)]
pub fn lan_xdp_frags(ctx: XdpContext) -> u32 {
    // SAFETY: the context is the program's own.
    let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as u32;
    xdp(&ctx, length)
}

#[inline(always)]
fn xdp(ctx: &XdpContext, length: u32) -> u32 {
    // SAFETY: the bounds are the context's; nothing here moves packet memory.
    let frame = unsafe { Frame::new(ctx.data(), ctx.data_end(), length) };
    let zone = Tables.interface(ctx.ingress_ifindex() as u32).zone;
    let parsed = parse::ethernet(&frame);
    let verdict = verdict::verdict(&Tables, Origin::Lan(zone), &parsed);
    Tables::count(verdict, 1, length);
    diagnose(ctx, &parsed, verdict);
    match verdict.action() {
        Action::Allow => xdp_action::XDP_PASS,
        _ => xdp_action::XDP_DROP,
    }
}

/// Clients' frames on interfaces without native XDP: bridges, VLANs, Wi-Fi, tunnels.
#[classifier]
pub fn lan_ingress(ctx: TcContext) -> i32 {
    let interface = Tables.interface(ifindex(&ctx));
    let parsed = parse_skb(&ctx, interface.layer3 != 0);
    skb_verdict(&ctx, Origin::Lan(interface.zone), &parsed)
}

/// What leaves by a WAN: the gateway's own packets, and those that came in where no policy looks.
#[classifier]
pub fn wan_egress(ctx: TcContext) -> i32 {
    let ingress = skb(&ctx).ingress_ifindex;
    if ingress == 0 {
        let interface = Tables.interface(ifindex(&ctx));
        let parsed = parse_skb(&ctx, interface.layer3 != 0);
        return skb_verdict(&ctx, Origin::Router, &parsed);
    }
    if Tables.interface(ingress).zone != 0 {
        // Judged and counted where it came in.
        return TC_ACT_OK;
    }
    let verdict = Tables.net().map_or(verdict::FAULT, |net| verdict::word(net, pseudo::UNLISTED));
    conclude(&ctx, verdict)
}

/// What a LAN receives: connections from outside are remembered, so that their replies pass.
#[classifier]
pub fn lan_egress(ctx: TcContext) -> i32 {
    // The gateway's own packets to a LAN are no connections from outside.
    if skb(&ctx).ingress_ifindex != 0
        && Tables.interface(skb(&ctx).ingress_ifindex).zone == 0
        && let Parsed::Ip(packet) = parse_skb(&ctx, Tables.interface(ifindex(&ctx)).layer3 != 0)
    {
        remember(&packet);
    }
    TC_ACT_OK
}

/// What a WAN receives for the gateway itself.
#[classifier]
pub fn wan_ingress(ctx: TcContext) -> i32 {
    if let Parsed::Ip(packet) = parse_skb(&ctx, Tables.interface(ifindex(&ctx)).layer3 != 0)
        && verdict::destination_place(&Tables, &packet).is_some_and(|found| found & place::OWN != 0)
    {
        remember(&packet);
    }
    TC_ACT_OK
}

#[inline(always)]
fn remember(packet: &Packet) {
    if let Some(flow) = verdict::inbound(&Tables, packet) {
        Tables::remember_reply(&flow);
    }
}

/// Parses an skb; if its headers are not in the linear part, they are pulled there first.
#[inline(always)]
fn parse_skb(ctx: &TcContext, layer3: bool) -> Parsed {
    /// More than any headers that the parser accepts by far.
    const HEADERS: u32 = 512;
    let mut parsed = parse_linear(ctx, layer3);
    if matches!(parsed, Parsed::Malformed(parse::Malformed::Truncated)) && linear(ctx) < ctx.len().min(HEADERS) {
        // SAFETY: the context is the program's own; no packet pointer from before the call is used after it.
        unsafe { bpf_skb_pull_data(ctx.skb.skb, ctx.len().min(HEADERS)) };
        parsed = parse_linear(ctx, layer3);
    }
    parsed
}

#[inline(always)]
fn linear(ctx: &TcContext) -> u32 {
    (ctx.data_end() - ctx.data()) as u32
}

#[inline(always)]
fn parse_linear(ctx: &TcContext, layer3: bool) -> Parsed {
    // SAFETY: the bounds are the context's; the frame is gone before memory is pulled.
    let frame = unsafe { Frame::new(ctx.data(), ctx.data_end(), ctx.len()) };
    // The outer VLAN tag is not in the data; its inner protocol is what `protocol` says.
    if layer3 {
        return parse::network(&frame, u16::from_be(skb(ctx).protocol as u16), 0);
    }
    parse::ethernet(&frame)
}

#[inline(always)]
fn skb_verdict(ctx: &TcContext, origin: Origin, parsed: &Parsed) -> i32 {
    let verdict = verdict::verdict(&Tables, origin, parsed);
    diagnose(ctx, parsed, verdict);
    conclude(ctx, verdict)
}

/// Counts and acts. A super-packet counts as the packets it will be cut into.
#[inline(always)]
fn conclude(ctx: &TcContext, verdict: Verdict) -> i32 {
    Tables::count(verdict, skb(ctx).gso_segs.max(1), ctx.len());
    match verdict.action() {
        Action::Allow => TC_ACT_OK,
        _ => TC_ACT_SHOT,
    }
}

/// Rare things worth a line while somebody looks for the cause; not in the program at all unless the log level asks for it.
#[inline(always)]
fn diagnose(ctx: &impl aya_ebpf::EbpfContext, parsed: &Parsed, verdict: Verdict) {
    if let Parsed::Malformed(reason) = parsed {
        debug!(ctx, "malformed frame: reason {}", *reason as u8);
    } else if verdict == verdict::FAULT {
        debug!(ctx, "tables contradict themselves");
    }
}

#[inline(always)]
fn skb(ctx: &TcContext) -> &__sk_buff {
    // SAFETY: the context is valid while the program runs, and the verifier checks each field's access.
    unsafe { &*ctx.skb.skb }
}

#[inline(always)]
fn ifindex(ctx: &TcContext) -> u32 {
    skb(ctx).ifindex
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier accepts no program in which this can be reached; the linker removes it.
    unsafe { core::hint::unreachable_unchecked() }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
