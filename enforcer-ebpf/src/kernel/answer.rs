//! Turning a refused packet into its answer, where it lies.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, xdp_md},
    helpers::{
        bpf_redirect, bpf_skb_change_tail, bpf_skb_store_bytes,
        generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_store_bytes},
    },
    macros::map,
    maps::PerCpuArray,
};

use super::{Frame, UNTAGGED, budget::Budget};
use crate::{
    bytes::Bytes as _,
    headers::{Ethernet, ethertype},
    parse,
    reject::{self, Answer},
};

/// The answer being written, too large for the stack.
#[map]
static ANSWER: PerCpuArray<Answer> = PerCpuArray::with_max_entries(1, 0);

/// An empty answer, if one more may be sent: a flood of refused packets must not become a flood of answers.
#[inline(always)]
fn answer() -> Option<&'static mut Answer> {
    if !Budget::Answers.take() {
        return None;
    }
    // SAFETY: this CPU's own; programs on one CPU do not preempt each other at this hook.
    let answer = unsafe { ANSWER.get_ptr_mut(0)?.as_mut()? };
    *answer = Answer([0; reject::MOST]);
    Some(answer)
}

/// Writes the answer to a frame; gives its length, the Ethernet header that it goes back under, and the offset of what it replaces. Nothing for frames
/// to or from groups: no single station would hear the answer.
#[inline(always)]
fn write(frame: &Frame, answer: &mut Answer) -> Option<(u32, Ethernet, u32)> {
    let link = frame.read::<Ethernet>(0)?;
    let (kind, offset) = parse::link(frame).ok()?;
    // The group bit is the first byte's lowest.
    if u16::from_be(link.destination[0] | link.source[0]) & 0x100 != 0 {
        return None;
    }
    let length = match kind {
        ethertype::IPV4 => reject::ipv4(frame, offset, answer)?,
        ethertype::IPV6 => reject::ipv6(frame, offset, answer)?,
        _ => return None,
    };
    let back = Ethernet { destination: link.source, source: link.destination, kind: link.kind };
    Some((length as u32, back, offset as u32))
}

/// Makes a frame its own answer, to be sent back, if it was sent to `mac`: a NIC that hears everything does not speak for other routers. `None` if it must not be answered, or cannot be; then it may be damaged, and is to be dropped.
///
/// # Safety
/// The context is the running program's own; what was read of its packet before is not used again.
#[inline(always)]
pub unsafe fn xdp(ctx: *mut xdp_md, mac: [u16; 3]) -> Option<()> {
    let answer = answer()?;
    // SAFETY: the caller's word; the frame is not used behind the first helper.
    unsafe {
        let frame = Frame::xdp(ctx, Some(bpf_xdp_get_buff_len(ctx) as usize));
        if mac != [0; 3] && frame.read::<Ethernet>(0)?.destination != mac {
            return None;
        }
        let (length, mut link, offset) = write(&frame, answer)?;
        let longer = (offset + length) as i32 - frame.size() as i32;
        // A frame may have no room behind it, but always has some before it.
        let refused = if longer > 0 {
            let mut tags = frame.read::<[u16; 4]>(UNTAGGED)?;
            let tags_length = offset - UNTAGGED as u32;
            bpf_xdp_adjust_head(ctx, -longer) != 0
                || (tags_length > 0
                    && bpf_xdp_store_bytes(ctx, UNTAGGED as u32, tags.as_mut_ptr().cast(), tags_length.min(8)) != 0)
        } else {
            bpf_xdp_adjust_tail(ctx, longer) != 0
        };
        let refused = refused
            || bpf_xdp_store_bytes(ctx, offset, answer.0.as_mut_ptr().cast(), length) != 0
            || bpf_xdp_store_bytes(ctx, 0, (&raw mut link).cast(), UNTAGGED as u32) != 0;
        (!refused).then_some(())
    }
}

/// Makes an skb its own answer and sends it back where it came from: out of the interface, or to the gateway's own stack. Gives the program's
/// return code; `None` as [`xdp`].
///
/// # Safety
/// As [`xdp`].
#[inline(always)]
pub unsafe fn skb(skb: *mut __sk_buff, to_own_stack: bool) -> Option<i32> {
    let answer = answer()?;
    // SAFETY: the caller's word; the frame is not used behind the first helper.
    unsafe {
        let frame = Frame::skb(skb);
        let (length, link, offset) = write(&frame, answer)?;
        let end = offset + length;
        // The kernel cuts no packet off before the transport header that it has found, which may be
        // that of a packet within this one (6in4). Such an answer keeps the packet's tail: its
        // receiver goes by the length in the IP header. A packet that is to be cut into several has
        // none.
        let may_keep_tail = (*skb).gso_segs <= 1 && (*skb).len >= end;
        let refused = (bpf_skb_change_tail(skb, end, 0) != 0 && !may_keep_tail)
            || bpf_skb_store_bytes(skb, offset, answer.0.as_ptr().cast(), length, 0) != 0
            || bpf_skb_store_bytes(skb, 0, (&raw const link).cast(), UNTAGGED as u32, 0) != 0;
        let flags = if to_own_stack { u64::from(BPF_F_INGRESS) } else { 0 };
        (!refused).then(|| bpf_redirect((*skb).ifindex, flags) as i32)
    }
}
