//! Telling user space of packets, sampled and so many a second.

use core::ptr::addr_of_mut;

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_skb_load_bytes, generated::bpf_xdp_load_bytes},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};

use super::budget::Budget;
use crate::{
    abi::{CAPTURE, Event, Verdict},
    bounded::bounded,
};

/// Apart from every other ring buffer: a flood of denied packets fills this one alone.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
/// One in how many packets makes an event, by sampling number.
#[map]
static SAMPLES: Array<u32> = Array::with_max_entries(Verdict::SAMPLINGS, 0);
/// Events for which there was no room in the ring buffer. Those beyond the budget are counted with it.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// What is told of a packet beside its bytes.
#[derive(Clone, Copy)]
pub struct About {
    /// Its verdict.
    pub verdict: Verdict,
    /// As [`Event::interface`].
    pub interface: u32,
    /// As [`Event::length`].
    pub length: u32,
    /// As [`Event::kind`].
    pub kind: u16,
    /// As [`Event::hook`].
    pub hook: u8,
}

/// Tells of an XDP program's packet, if its turn has come.
///
/// # Safety
/// The context is the running program's own.
#[inline(always)]
pub unsafe fn xdp(ctx: *mut xdp_md, about: About) {
    // SAFETY: the caller's word; the bytes are as many as `tell` says.
    tell(about, |bytes, count| unsafe { bpf_xdp_load_bytes(ctx, 0, bytes.cast(), count) == 0 });
}

/// Tells of a TC program's packet, likewise.
///
/// # Safety
/// The context is the running program's own.
#[inline(always)]
pub unsafe fn skb(skb: *mut __sk_buff, about: About) {
    // SAFETY: as above.
    tell(about, |bytes, count| unsafe { bpf_skb_load_bytes(skb.cast(), 0, bytes.cast(), count) == 0 });
}

/// Whether there is no more to tell within this timer tick: then the event is counted as lost at once, as a flood of denied packets has millions of them.
#[inline(always)]
#[must_use]
pub fn is_refused(verdict: Verdict) -> bool {
    // Where only some packets are told of, a lot is drawn first.
    verdict.sampling() == Verdict::EACH && Budget::Events.refuses()
}

#[inline(always)]
fn tell(about: About, load: impl FnOnce(*mut u8, u32) -> bool) {
    let one_in = SAMPLES.get(about.verdict.sampling()).copied().unwrap_or(0);
    // SAFETY: the helper has no arguments.
    if one_in == 0 || (one_in > 1 && unsafe { bpf_get_prandom_u32() } % one_in != 0) {
        return;
    }
    if !Budget::Events.take() {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        if let Some(count) = LOST.get_ptr_mut(0) {
            // SAFETY: this CPU's own cell; programs on one CPU do not preempt each other at this hook.
            unsafe { *count += 1 };
        }
        return;
    };
    let event = entry.as_mut_ptr();
    let captured = about.length.min(CAPTURE as u32);
    // SAFETY: the entry is an event's memory; each field is written once, and of its bytes as many as the bound allows. What of them is not written is
    // left of an earlier event, and not read.
    unsafe {
        addr_of_mut!((*event).time).write(bpf_ktime_get_ns());
        addr_of_mut!((*event).verdict).write(about.verdict);
        addr_of_mut!((*event).interface).write(about.interface);
        addr_of_mut!((*event).length).write(about.length);
        addr_of_mut!((*event).kind).write(about.kind);
        addr_of_mut!((*event).hook).write(about.hook);
        // A count of zero is no count, for the verifier.
        let count = bounded::<{ CAPTURE - 1 }>(captured.saturating_sub(1) as usize) as u32 + 1;
        let loaded = load(addr_of_mut!((*event).bytes).cast(), count);
        addr_of_mut!((*event).captured).write(if loaded { captured as u8 } else { 0 });
    }
    entry.submit(0);
}
