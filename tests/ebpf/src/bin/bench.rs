//! What the benchmark times: each program first writes the next destination, and a random client's source, into its packet, so that no two packets in a row
//! are alike.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, reason = "the attribute macros' own wrapper functions have none")]
#![expect(clippy::needless_pass_by_value, reason = "the attribute macros hand contexts over by value")]

use core::arch::asm;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, xdp_action},
    macros::{map, xdp},
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
    programs::XdpContext,
};
use enforcer_ebpf::{
    abi::{Block, Words6},
    bounded::bounded,
    kernel, maps,
};

/// Words of destinations in `TARGETS`; a power of two.
const TARGET_WORDS: u32 = 1 << 20;
/// Where the benchmark is.
#[repr(C)]
#[derive(Clone, Copy)]
struct Cursor {
    /// The next word of `TARGETS`.
    next: u64,
    /// Bytes from the frame's start to its addresses, the source's first; fewer than 64.
    addresses: u64,
}

#[map]
static TARGETS: Array<Block> = Array::with_max_entries(TARGET_WORDS / 256, BPF_F_MMAPABLE);
#[map]
static CURSOR: Array<Cursor> = Array::with_max_entries(1, 0);
#[map]
static TRIE4: LpmTrie<u32, u32> = LpmTrie::with_max_entries(2_000_000, BPF_F_NO_PREALLOC);
#[map]
static TRIE6: LpmTrie<Words6, u32> = LpmTrie::with_max_entries(2_000_000, BPF_F_NO_PREALLOC);
#[map]
static HASH4: HashMap<u32, u32> = HashMap::with_max_entries(1_000_000, 0);

/// The floor that everything is measured from.
#[xdp]
pub fn empty(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The rewriting alone, IPv4; subtracted from the others.
#[xdp]
pub fn rewrite4(ctx: XdpContext) -> u32 {
    next4(&ctx).map_or(xdp_action::XDP_ABORTED, |_| xdp_action::XDP_DROP)
}

/// The rewriting alone, IPv6.
#[xdp]
pub fn rewrite6(ctx: XdpContext) -> u32 {
    next6(&ctx).map_or(xdp_action::XDP_ABORTED, |_| xdp_action::XDP_DROP)
}

/// The whole way of a client's frame, IPv4.
#[xdp]
pub fn judge4(ctx: XdpContext) -> u32 {
    next4(&ctx).map_or(xdp_action::XDP_ABORTED, |_| kernel::xdp::client(&ctx, None))
}

/// The whole way of a client's frame, IPv6.
#[xdp]
pub fn judge6(ctx: XdpContext) -> u32 {
    next6(&ctx).map_or(xdp_action::XDP_ABORTED, |_| kernel::xdp::client(&ctx, None))
}

/// A kernel LPM trie asked for the destination, and nothing else.
#[xdp]
pub fn lpm4(ctx: XdpContext) -> u32 {
    let Some(target) = next4(&ctx) else { return xdp_action::XDP_ABORTED };
    found(TRIE4.get(Key::new(32, target)))
}

/// A kernel LPM trie asked for the IPv6 destination, and nothing else.
#[xdp]
pub fn lpm6(ctx: XdpContext) -> u32 {
    let Some(target) = next6(&ctx) else { return xdp_action::XDP_ABORTED };
    found(TRIE6.get(Key::new(128, target)))
}

/// A kernel hash asked for the destination, and nothing else.
#[xdp]
pub fn hash4(ctx: XdpContext) -> u32 {
    let Some(target) = next4(&ctx) else { return xdp_action::XDP_ABORTED };
    // SAFETY: only tested for presence.
    found(unsafe { HASH4.get(target) })
}

#[inline(always)]
fn found(value: Option<&u32>) -> u32 {
    if value.is_some() { xdp_action::XDP_PASS } else { xdp_action::XDP_DROP }
}

/// Writes the next IPv4 destination (network byte order in the table) and returns it; and a source from 10.1.0.2 to 10.1.0.254.
#[inline(always)]
fn next4(ctx: &XdpContext) -> Option<u32> {
    let (target, addresses) = targets(1)?;
    let target = maps::cell(&target[0]);
    let start = ctx.data() + addresses;
    if start + 8 > ctx.data_end() {
        return None;
    }
    let host = 2 + ((u64::from(scattered(target)) * 253) >> 32) as u32;
    store32(start, (0x0a01_0000 | host).to_be());
    store32(start + 4, target);
    Some(target)
}

/// Writes the next IPv6 destination and returns it; and the last 32 bits of a source.
#[inline(always)]
fn next6(ctx: &XdpContext) -> Option<Words6> {
    let (target, addresses) = targets(4)?;
    let start = ctx.data() + addresses;
    if start + 32 > ctx.data_end() {
        return None;
    }
    store32(start + 12, scattered(target[3]));
    for (index, &word) in target.iter().enumerate() {
        store32(start + 16 + 4 * index, word);
    }
    Some(target)
}

/// Other random bits of random ones, so that a source says nothing of its destination: by the golden ratio (Knuth, The Art of Computer Programming, volume 3, 6.4).
#[inline(always)]
const fn scattered(bits: u32) -> u32 {
    bits.wrapping_mul(0x9e37_79b1)
}

/// One store at any alignment. Put together from bytes, the address would not be forwarded to the parser's load, and every packet would wait for
/// the benchmark's own write.
#[inline(always)]
fn store32(address: usize, value: u32) {
    // SAFETY: the callers have checked that the address is in the packet, as the verifier checks again.
    unsafe { asm!("*(u32 *)({0} + 0) = {1}", in(reg) address, in(reg) u64::from(value), options(nostack)) };
}

/// The next `words` words of the table, and where they go; one CPU running.
#[inline(always)]
fn targets(words: u32) -> Option<(Words6, usize)> {
    let cursor = CURSOR.get_ptr_mut(0)?;
    // SAFETY: the benchmark runs on one CPU at a time.
    let (at, addresses) = unsafe {
        let at = (*cursor).next as u32;
        (*cursor).next = u64::from(at.wrapping_add(words));
        (at & (TARGET_WORDS - 1), bounded::<63>((*cursor).addresses as usize))
    };
    let block = TARGETS.get(at >> 8)?;
    let first = at as usize & 0xfc;
    let target = match words {
        1 => [block[at as usize & 0xff], 0, 0, 0],
        _ => [block[first], block[first + 1], block[first + 2], block[first + 3]],
    };
    Some((target, addresses))
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier accepts no program in which this can be reached; the linker removes it.
    unsafe { core::hint::unreachable_unchecked() }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
