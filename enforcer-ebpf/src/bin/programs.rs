//! The programs on a gateway's interfaces.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the attribute macros' own wrapper functions have none")]
#![expect(clippy::needless_pass_by_value, reason = "the attribute macros hand contexts over by value")]

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_skb_pull_data, generated::bpf_xdp_get_buff_len},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use enforcer_ebpf::{
    abi::{Action, Net, Verdict, hook, place, pseudo},
    address::Address,
    bytes::Bytes as _,
    kernel::{
        self, Frame, UNTAGGED, answer,
        budget::Budget,
        clients,
        event::{self, About},
        snoop, tables, whole,
    },
    maps,
    parse::{self, Malformed, Packet, Sink},
    verdict::{self, Origin, interface},
};

/// To whatever else is attached there: "OK" would end the chain and skip every filter of `tc`.
const GOES_ON: i32 = TC_ACT_UNSPEC;
/// No verdict: there is no such sampling.
const NONE: u32 = u32::MAX;

/// Clients' frames as a LAN's NIC receives them.
#[xdp]
pub fn lan_xdp(ctx: XdpContext) -> u32 {
    kernel::xdp::client(&ctx, None)
}

/// The same on a NIC whose frames span buffers (jumbo frames, receive aggregation).
#[xdp(frags)]
pub fn lan_xdp_frags(ctx: XdpContext) -> u32 {
    // SAFETY: the context is the program's own.
    let length = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as usize;
    kernel::xdp::client(&ctx, Some(length))
}

/// The same for an skb; `kind` and `hook` as in [`About`].
#[inline(never)]
fn tell_skb(skb: *mut __sk_buff, verdict: Verdict, interface: u32, kind: u16, hook: u8) {
    // SAFETY: the context is the program's own.
    unsafe { event::skb(skb, About { verdict, interface, length: (*skb).len, kind, hook }) };
}

/// The same for an skb; [`TC_ACT_SHOT`] where there is no answer.
#[inline(never)]
fn reject_skb(skb: *mut __sk_buff, to_own_stack: bool) -> i32 {
    // SAFETY: the context is the program's own, and nothing of the packet is used behind this call.
    unsafe { answer::skb(skb, to_own_stack) }.unwrap_or(TC_ACT_SHOT)
}

/// Clients' frames on interfaces without native XDP: bridges, VLANs, Wi-Fi, tunnels.
#[classifier]
pub fn lan_ingress(ctx: TcContext) -> i32 {
    let Some(net) = kernel::net() else { return TC_ACT_SHOT };
    let interface = interface(net, ifindex(&ctx));
    skb_verdict(&ctx, net, Origin::Lan(interface.zone), interface.layer3 != 0)
}

/// What leaves by a WAN: the gateway's own packets, and those that came in where no policy looks.
#[classifier]
pub fn wan_egress(ctx: TcContext) -> i32 {
    let Some(net) = kernel::net() else { return TC_ACT_SHOT };
    let ingress = skb(&ctx).ingress_ifindex;
    if ingress == 0 {
        return skb_verdict(&ctx, net, Origin::Router, interface(net, ifindex(&ctx)).layer3 != 0);
    }
    if interface(net, ingress).judged != 0 {
        // Judged and counted where it came in.
        return GOES_ON;
    }
    let kind = if interface(net, ifindex(&ctx)).layer3 == 0 { 0 } else { network_kind(&ctx) };
    conclude(&ctx, verdict::word(net, pseudo::UNLISTED), None, |verdict| {
        tell_skb(ctx.skb.skb, verdict, ingress, kind, hook::UNLISTED);
    })
}

/// What a LAN receives: connections from outside are remembered, so that their replies pass.
#[classifier]
pub fn lan_egress(ctx: TcContext) -> i32 {
    let ingress = skb(&ctx).ingress_ifindex;
    // The gateway's own packets to a LAN are no connections from outside.
    if let Some(net) = kernel::net()
        && maps::cell(&net.replies) != 0
        && ingress != 0
        && verdict::zone(net, ingress) == 0
    {
        parse_skb(&ctx, interface(net, ifindex(&ctx)).layer3 != 0, Remember { net, own: false });
    }
    GOES_ON
}

/// Clients' questions that were not denied: attached behind the judge, if names are learned from what passes.
#[classifier]
pub fn snoop_queries(ctx: TcContext) -> i32 {
    // SAFETY: the context is the program's own.
    unsafe { snoop::query(ctx.skb.skb, layer3_kind(&ctx)) };
    GOES_ON
}

/// Resolvers' answers to them, likewise.
#[classifier]
pub fn snoop_answers(ctx: TcContext) -> i32 {
    // SAFETY: the context is the program's own.
    unsafe { snoop::answer(ctx.skb.skb, layer3_kind(&ctx)) };
    GOES_ON
}

/// The network header's EtherType, on devices without a link-layer header.
#[inline(always)]
fn layer3_kind(ctx: &TcContext) -> Option<u16> {
    let layer3 = kernel::net().is_some_and(|net| interface(net, ifindex(ctx)).layer3 != 0);
    layer3.then(|| network_kind(ctx))
}

/// What a WAN receives for the gateway itself.
#[classifier]
pub fn wan_ingress(ctx: TcContext) -> i32 {
    if let Some(net) = kernel::net()
        && maps::cell(&net.replies) != 0
    {
        parse_skb(&ctx, interface(net, ifindex(&ctx)).layer3 != 0, Remember { net, own: true });
    }
    GOES_ON
}

/// Remembers packets from outside that the inbound policy allows.
struct Remember {
    net: &'static Net,
    /// Only those to the gateway's own addresses.
    own: bool,
}

impl Sink for Remember {
    type Output = ();

    #[inline(always)]
    fn ip<A: Address>(self, packet: &Packet<A>) {
        let own = || {
            verdict::destination_place(&tables::Tables::<false>(self.net), self.net, packet)
                .is_some_and(|found| found & place::OWN != 0)
        };
        if (!self.own || own())
            && let Some(flow) = verdict::inbound(&tables::Tables::<false>(self.net), packet)
        {
            kernel::remember_flow(&flow, packet.tcp_flags);
        }
    }

    #[inline(always)]
    fn non_ip(self, _: u16) {}

    #[inline(always)]
    fn malformed(self, _: Malformed) {}
}

/// Parses an skb whose headers may not all be in its linear part: then they are pulled there first.
#[inline(always)]
fn parse_skb<S: Sink>(ctx: &TcContext, layer3: bool, sink: S) -> S::Output {
    /// Ethernet, IPv6 and the part of TCP that the parser reads. What lies further out (tags, options, extension headers) is rare; such
    /// packets are pulled as far as honest headers go. One whose headers end further out is malformed here.
    const USUAL: usize = 14 + 40 + 14;
    const MOST: usize = 1024;
    // SAFETY: the context is the program's own, and the frame is given up before memory is moved.
    let mut frame = unsafe { Frame::skb(ctx.skb.skb) };
    let (linear, whole) = (frame.readable(), frame.size());
    if linear < whole.min(USUAL)
        || (linear < whole.min(MOST) && !parse::is_plain(&frame, if layer3 { 0 } else { UNTAGGED }))
    {
        // SAFETY: the context is the program's own; the frame is read anew behind the call.
        frame = unsafe {
            bpf_skb_pull_data(ctx.skb.skb, whole.min(MOST) as u32);
            Frame::skb(ctx.skb.skb)
        };
    }
    // The outer VLAN tag is not in the data; its inner protocol is what `protocol` says.
    if layer3 {
        return parse::network(&frame, network_kind(ctx), 0, sink);
    }
    parse::ethernet(&frame, sink)
}

#[inline(always)]
fn skb_verdict(ctx: &TcContext, net: &Net, origin: Origin, layer3: bool) -> i32 {
    let zone = match origin {
        Origin::Lan(zone) => zone.into(),
        Origin::Router => ROUTER,
    };
    if zone != ROUTER && verdict::has_portal(net) {
        tables::note_admitted(is_admitted_skb(ctx.skb.skb, layer3));
    }
    let usual = if layer3 { NONE } else { usual4_skb(ctx.skb.skb, zone) };
    let mut verdict = Verdict(usual);
    if usual == NONE {
        verdict = unusual_skb(ctx.skb.skb, layer3, zone);
        let error = verdict::word(net, pseudo::ICMP_ERROR);
        if kernel::is_rule(verdict) && error.action().passes() && error_skb(ctx.skb.skb, layer3, zone) {
            verdict = error;
        }
    }
    // Without a link-layer header there is nothing that the answer could go back under.
    let router = origin == Origin::Router;
    conclude(ctx, verdict, (!layer3).then_some(router), |verdict| {
        let kind = if layer3 { network_kind(ctx) } else { 0 };
        tell_skb(ctx.skb.skb, verdict, ifindex(ctx), kind, if router { hook::ROUTER } else { hook::LAN });
    })
}

/// The network header's EtherType, for devices without a link-layer header.
#[inline(always)]
fn network_kind(ctx: &TcContext) -> u16 {
    u16::from_be(skb(ctx).protocol as u16)
}

/// No zone: the gateway's own packets.
const ROUTER: u32 = u32::MAX;

fn origin_of(zone: u32) -> Origin {
    if zone == ROUTER { Origin::Router } else { Origin::Lan(zone as u8) }
}

/// Usual IPv4 frames. What a program calls in turn shares its stack with it: each of these is a function of its own.
#[inline(never)]
fn usual4_skb(skb: *mut __sk_buff, zone: u32) -> u32 {
    let Some(net) = kernel::net() else { return NONE };
    // SAFETY: the context is the program's own; nothing moves packet memory while this frame is in use.
    let frame = unsafe { Frame::skb(skb) };
    kernel::usual4(&frame, net, origin_of(zone), || is_reply_skb(skb)).map_or(NONE, |verdict| verdict.0)
}

/// Whether a usual frame with IPv4 in it, that the rules deny, is a reply to a connection from outside.
#[inline(never)]
fn is_reply_skb(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context is the program's own; nothing here moves packet memory.
    kernel::is_reply4(&unsafe { Frame::skb(skb) })
}

/// Whether the portal has admitted the sender of a frame, whose headers are pulled into its linear part for that.
#[inline(never)]
fn is_admitted_skb(skb: *mut __sk_buff, layer3: bool) -> bool {
    /// Ethernet, two tags, IPv6.
    const HEADERS: u32 = 14 + 8 + 40;
    // SAFETY: the context is the program's own, and the frame is read behind the call that may move memory.
    let (frame, protocol) = unsafe {
        let wanted = HEADERS.min((*skb).len);
        if Frame::skb(skb).readable() < wanted as usize {
            bpf_skb_pull_data(skb, wanted);
        }
        (Frame::skb(skb), u16::from_be((*skb).protocol as u16))
    };
    let start = if layer3 { Ok((protocol, 0)) } else { parse::link(&frame) };
    start.is_ok_and(|(kind, offset)| clients::admits(&frame, kind, offset, !layer3))
}

/// Whatever is not usual, by the whole parser.
#[inline(never)]
fn unusual_skb(skb: *mut __sk_buff, layer3: bool, zone: u32) -> Verdict {
    let Some(net) = kernel::net() else { return verdict::FAULT };
    let ctx = &TcContext::new(skb);
    parse_skb(ctx, layer3, whole::judge(ctx, &tables::Tables(net), origin_of(zone)))
}

/// Whether a denied packet, whose headers the parser has pulled, is an ICMP error that passes all the same.
#[inline(never)]
fn error_skb(skb: *mut __sk_buff, layer3: bool, zone: u32) -> bool {
    // SAFETY: the context is the program's own; nothing here moves packet memory.
    let (frame, protocol) = unsafe { (Frame::skb(skb), u16::from_be((*skb).protocol as u16)) };
    let start = if layer3 { Ok((protocol, 0)) } else { parse::link(&frame) };
    start.is_ok_and(|(kind, offset)| kernel::is_passing_error(&frame, kind, offset, origin_of(zone)))
}

/// Counts and acts. A super-packet counts as the packets it will be cut into. `answer` says whether a rejected packet's answer goes to the
/// gateway's own stack, or out again; `None` if there is to be none. `tell` makes an event.
#[inline(always)]
fn conclude(ctx: &TcContext, verdict: Verdict, answer: Option<bool>, tell: impl FnOnce(Verdict)) -> i32 {
    kernel::count(verdict, skb(ctx).gso_segs.max(1), ctx.len() as usize);
    if verdict.sampling() != 0 && !event::is_refused(verdict) {
        tell(verdict);
    }
    match (verdict.action(), answer) {
        (Action::Allow | Action::Monitor, _) => GOES_ON,
        (Action::Reject, Some(to_own_stack)) if !Budget::Answers.refuses() => reject_skb(ctx.skb.skb, to_own_stack),
        _ => TC_ACT_SHOT,
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
