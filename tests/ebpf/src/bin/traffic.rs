//! What the benchmark floods a gateway with, where that ends, and the shortest programs there are, to compare with.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the attribute macros' own wrapper functions have none")]
#![expect(clippy::needless_pass_by_value, reason = "the attribute macros hand contexts over by value")]

use core::ptr;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action},
    helpers::bpf_ktime_get_ns,
    macros::{classifier, map, xdp},
    maps::{Array, DevMap, PerCpuArray},
    programs::{TcContext, XdpContext},
};

/// Frames in the table; a power of two. A quarter of a megabyte in all: read one after another, they come from a CPU's own cache.
const FRAMES_COUNT: u32 = 4096;

/// A whole frame of 64 bytes. Live frames begin at multiples of eight, as this does.
type Frame = [u64; 8];

/// What was sent since user space zeroed this. Times are stamped in whole rounds through the table, so that neither the call's ends are in them nor
/// stamping costs a frame anything.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sent {
    frames: u64,
    /// Nanoseconds when the first frame was made, and when the last whole round was over.
    first: u64,
    last: u64,
}

#[map]
static FRAMES: Array<Frame> = Array::with_max_entries(FRAMES_COUNT, 0);
/// Where frames go.
#[map]
static OUT: DevMap = DevMap::with_max_entries(1, 0);
/// What this CPU has sent.
#[map]
static SENT: PerCpuArray<Sent> = PerCpuArray::with_max_entries(1, 0);
/// Frames that came to this CPU's end.
#[map]
static RECEIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Sends the next frame. All of it is written each time: memory is used again, and holds what the gateway made of the frame before.
#[xdp]
pub fn generate(ctx: XdpContext) -> u32 {
    write(&ctx).and_then(|()| OUT.redirect(0, 0).ok()).unwrap_or(xdp_action::XDP_ABORTED)
}

/// What that costs before anybody has the frame: it is written, and goes nowhere.
#[xdp]
pub fn generate_alone(ctx: XdpContext) -> u32 {
    write(&ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_DROP)
}

#[inline(always)]
fn write(ctx: &XdpContext) -> Option<()> {
    let sent = SENT.get_ptr_mut(0)?;
    // SAFETY: a cell of this CPU's own, on which one generator runs at a time.
    let sent = unsafe { &mut *sent };
    let at = sent.frames as u32 & (FRAMES_COUNT - 1);
    if at == 0 {
        // SAFETY: a helper without arguments.
        let now = unsafe { bpf_ktime_get_ns() };
        *(if sent.frames == 0 { &mut sent.first } else { &mut sent.last }) = now;
    }
    sent.frames += 1;
    let frame = FRAMES.get(at)?;
    let start = ctx.data();
    if start + size_of::<Frame>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the packet has room, which the verifier checks again, and is aligned as the kernel lays live frames out.
    // An assignment would be a call of memmove, byte by byte.
    unsafe { ptr::copy_nonoverlapping(frame, start as *mut Frame, 1) };
    Some(())
}

/// The least that a filter could do, which every other is measured from. The interface itself counts what it drops.
#[xdp]
pub fn drop_all(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The same for what is forwarded: what XDP itself costs there.
#[xdp]
pub fn pass_all(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The shortest program where packets leave: what TC itself costs there.
#[classifier]
pub fn pass_out(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// The end of what was forwarded.
#[xdp]
pub fn receive(_ctx: XdpContext) -> u32 {
    if let Some(received) = RECEIVED.get_ptr_mut(0) {
        // SAFETY: a cell of this CPU's own; a NIC's queue is polled by one CPU at a time.
        unsafe { *received += 1 };
    }
    xdp_action::XDP_DROP
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier accepts no program in which this can be reached; the linker removes it.
    unsafe { core::hint::unreachable_unchecked() }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
