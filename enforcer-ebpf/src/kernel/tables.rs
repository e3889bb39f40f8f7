//! BPF maps. Sizes here are the least ones; user space sets the real ones before loading.

use core::arch::asm;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    helpers::{bpf_get_smp_processor_id, generated::bpf_ktime_get_coarse_ns},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
};

use crate::{
    abi::{
        Block, Bucket, Counter, Flow, FlowKey, FragmentHead, FragmentKey, Keys6, LongKey, Net, OverflowKey, PolicyId,
        Root, Verdict, Words6,
    },
    address::words,
    classify,
    flow::{self, Sender},
    maps::{self, Maps},
    verdict::FAULT,
};

#[map]
static BLOCKS: Array<Block> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static HOSTS4: Array<Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static HOSTS6: Array<Bucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static KEYS6: Array<Keys6> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static OVERFLOW: HashMap<OverflowKey, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static LONG6: LpmTrie<LongKey, u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);
// Not a per-CPU map: its values lie behind a pointer each, and cannot be mapped.
#[map]
static COUNTERS: Array<Counter> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// What each counter counts, as a hash by which the next policy's are found: for user space alone.
#[map]
static IDENTITIES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Counters of one CPU, which user space sets before loading.
#[unsafe(no_mangle)]
static COUNTERS_PER_CPU: Global<u32> = Global::new(0);
#[map]
static NET: Array<Net> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static PLACES6: LpmTrie<Words6, u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);
// One LRU list for all CPUs: a packet's fragments may arrive on different ones, and a list per CPU would evict far too early.
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, FragmentHead> = LruHashMap::with_max_entries(1, 0);
#[map]
static REPLIES: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(1, 0);

/// What a CPU asks [`FRAGMENTS`] for: too large for a stack that is shared with the parser.
#[repr(C)]
#[derive(Clone, Copy)]
struct Part {
    key: FragmentKey,
    head: FragmentHead,
}

/// What a CPU asks [`LONG6`] and [`OVERFLOW`] for, likewise, and the host cell that it may stamp.
#[repr(C)]
struct Keys {
    long: Key<LongKey>,
    overflow: OverflowKey,
    noted: u32,
    /// Whether the sender of the packet that this CPU judges is admitted by the portal; only set where there is one.
    admitted: u32,
}

#[map]
static KEYS: PerCpuArray<Keys> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn keys() -> Option<&'static mut Keys> {
    // SAFETY: this CPU's own; programs on one CPU do not preempt each other at this hook.
    unsafe { KEYS.get_ptr_mut(0)?.as_mut() }
}

#[map]
static PART: PerCpuArray<Part> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn part() -> Option<&'static mut Part> {
    // SAFETY: this CPU's own; programs on one CPU do not preempt each other at this hook.
    unsafe { PART.get_ptr_mut(0)?.as_mut() }
}

/// The maps of the loaded object, the first of them looked up already. `INLINE` tells whether the classifier becomes part of the program that asks: on the usual packets' short way it
/// does; elsewhere it is called, for the verifier's sake.
pub struct Tables<const INLINE: bool>(pub &'static Net);

/// Notes whether the portal has admitted a packet's sender, until the packet's verdict.
#[inline(always)]
pub fn note_admitted(admitted: bool) {
    if let Some(keys) = keys() {
        keys.admitted = u32::from(admitted);
    }
}

/// [`classify::judge4`] as a global function: the verifier checks it once, for any arguments, instead of again for every state in which
/// a parser may come out; and it is in the object once. The call costs a nanosecond.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforcer_judge4(policy: u32, source: u32, destination: u32, port: u32) -> u32 {
    let Some(net) = net() else { return FAULT.0 };
    let policy = policy_of(policy);
    classify::judge4(&Tables::<true>(net), policy, source, destination, port).unwrap_or(FAULT).0
}

/// [`classify::judge6`], likewise; addresses come in halves, as a function has five scalar arguments.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforcer_judge6(
    policy_port: u64,
    source_high: u64,
    source_low: u64,
    destination_high: u64,
    destination_low: u64,
) -> u32 {
    let Some(net) = net() else { return FAULT.0 };
    let policy = policy_of((policy_port >> 32) as u32);
    let (source, destination) = (words(source_high, source_low), words(destination_high, destination_low));
    let port = policy_port as u32;
    classify::judge6(&Tables::<true>(net), policy, &source, &destination, port).unwrap_or(FAULT).0
}

/// Half an IPv6 address.
#[inline(always)]
fn half(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Seconds of the kernel's monotonic clock.
#[inline(always)]
fn now() -> u32 {
    // SAFETY: the helper has no arguments and no effect.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}

/// Whether a flow was opened from outside and still lives; then its packet is noted. Asked rarely, and out of line with its key in scalars: functions
/// that call each other have 512 bytes of stack together, and so no caller's part has the key in it. `ports` are inside port (16 bits), outside port (16), sender (8),
/// TCP flags (8) and protocol (8), from the top.
#[inline(never)]
fn is_flow(inside_high: u64, inside_low: u64, outside_high: u64, outside_low: u64, ports: u64) -> bool {
    let key = &FlowKey {
        inside: words(inside_high, inside_low),
        outside: words(outside_high, outside_low),
        inside_port: (ports >> 48) as u16,
        outside_port: (ports >> 32) as u16,
        protocol: u32::from(ports as u8),
    };
    let (Some(value), Some(net)) = (REPLIES.get_ptr_mut(key), net()) else { return false };
    let value: *mut u64 = value.cast();
    // SAFETY: map values are aligned to eight bytes; programs read and write this one as a whole.
    let seen = unsafe { value.read_volatile() };
    let (flow, now): (Flow, u32) = (bytemuck::cast(seen), now());
    if !flow.lives(now, &net.timeouts) {
        return false;
    }
    let sender = if ports >> 16 & 1 == 0 { Sender::Outside } else { Sender::Inside };
    let next: u64 = bytemuck::cast(flow.with(sender, (ports >> 8) as u8, now));
    if next != seen {
        // Not if another CPU was faster, which saw as much; nor if the element was evicted meanwhile and is another flow's.
        // SAFETY: as above.
        unsafe { exchange(value, seen, next) };
    }
    true
}

/// Stores a value if there is the one that is expected. By hand: the compiler holds that BPF had no such instruction, which it has since Linux 5.12.
///
/// # Safety
/// The pointer is to eight aligned bytes of a map's value.
#[inline(always)]
unsafe fn exchange(value: *mut u64, expected: u64, next: u64) {
    // SAFETY: the caller's word.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({0} + 0, r0, {1})",
            in(reg) value,
            in(reg) next,
            inout("r0") expected => _,
            options(nostack)
        );
    }
}

#[inline(always)]
fn note(key: &FlowKey, sender: Sender, tcp_flags: u8) -> bool {
    let ports = u64::from(key.inside_port) << 48
        | u64::from(key.outside_port) << 32
        | u64::from(sender == Sender::Inside) << 16
        | u64::from(tcp_flags) << 8
        | u64::from(key.protocol & 0xff);
    let ([a, b, c, d], [e, f, g, h]) = (key.inside, key.outside);
    is_flow(half(a, b), half(c, d), half(e, f), half(g, h), ports)
}

#[inline(always)]
fn policy_of(number: u32) -> PolicyId {
    match number {
        0 => PolicyId::Lan,
        1 => PolicyId::Router,
        _ => PolicyId::Inbound,
    }
}

/// What is known of the network.
#[inline(always)]
#[must_use]
pub fn net() -> Option<&'static Net> {
    NET.get(0)
}

/// Adds packets to a verdict's counter. Two plain additions: the cell is this CPU's own.
#[inline(always)]
pub fn count(verdict: Verdict, packets: u32, bytes: usize) {
    // SAFETY: the helper has no arguments and no effect.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if let Some(counter) = COUNTERS.get_ptr_mut(cpu * COUNTERS_PER_CPU.load() + verdict.counter()) {
        // SAFETY: the pointer is to this CPU's cell; programs on one CPU do not preempt each other at this hook.
        unsafe {
            (*counter).packets += u64::from(packets);
            (*counter).bytes += bytes as u64;
        }
    }
}

/// Remembers a connection of which the outside sends a packet with these TCP flags, if it is known
/// or the packet opens it.
#[inline(always)]
pub fn remember_flow(key: &FlowKey, tcp_flags: u8) {
    if !note(key, Sender::Outside, tcp_flags) && flow::opens(key.protocol as u8, tcp_flags) {
        // A full table evicts what was not used for longest, it does not fail.
        let _ = REPLIES.insert(key, Flow::opened(key.protocol as u8, now()), 0);
    }
}

impl<const INLINE: bool> Maps for Tables<INLINE> {
    #[inline(always)]
    fn root(&self, policy: PolicyId) -> &Root {
        &self.0.roots[policy as usize]
    }

    #[inline(always)]
    fn block(&self, index: u32) -> Option<&Block> {
        BLOCKS.get(index)
    }

    #[inline(always)]
    fn epoch(&self) -> u16 {
        maps::cell(&self.0.epoch) as u16
    }

    #[inline(always)]
    fn admitted(&self) -> bool {
        keys().is_some_and(|keys| keys.admitted != 0)
    }

    #[inline(always)]
    fn judge4(&self, policy: PolicyId, source: u32, destination: u32, port: u32) -> Option<Verdict> {
        if INLINE {
            return classify::judge4(self, policy, source, destination, port);
        }
        Some(Verdict(enforcer_judge4(policy as u32, source, destination, port)))
    }

    #[inline(always)]
    fn judge6(&self, policy: PolicyId, source: &Words6, destination: &Words6, port: u32) -> Option<Verdict> {
        if INLINE {
            return classify::judge6(self, policy, source, destination, port);
        }
        Some(Verdict(enforcer_judge6(
            u64::from(policy as u32) << 32 | u64::from(port),
            half(source[0], source[1]),
            half(source[2], source[3]),
            half(destination[0], destination[1]),
            half(destination[2], destination[3]),
        )))
    }

    #[inline(always)]
    fn place6(&self, address: &Words6) -> Option<u32> {
        PLACES6.get(Key::new(128, address.map(u32::to_be))).copied()
    }

    #[inline(always)]
    fn hosts4(&self, bucket: u32) -> Option<&Bucket> {
        HOSTS4.get(bucket)
    }

    #[inline(always)]
    fn hosts6(&self, bucket: u32) -> Option<&Bucket> {
        HOSTS6.get(bucket)
    }

    #[inline(always)]
    fn key6(&self, bucket: u32, cell: usize) -> Option<Words6> {
        Some(KEYS6.get(bucket)?[cell & 7])
    }

    #[inline(always)]
    fn overflow(&self, key: &OverflowKey) -> Option<u32> {
        let wanted = &mut keys()?.overflow;
        *wanted = *key;
        let key: &OverflowKey = wanted;
        // SAFETY: the value is copied out at once; an element freed meanwhile is not reused before the program ends (RCU).
        unsafe { OVERFLOW.get(key) }.copied()
    }

    #[inline(always)]
    fn long6(&self, space: u32, address: &Words6) -> Option<u32> {
        let wanted = &mut keys()?.long;
        wanted.prefix_len = 160;
        wanted.data = classify::long_key(space, address);
        let key: &Key<LongKey> = wanted;
        LONG6.get(key).copied()
    }

    #[inline(always)]
    fn touch4(&self, bucket: u32, cell: usize, epoch: u16) {
        if let Some(bucket) = HOSTS4.get_ptr_mut(bucket) {
            stamp(bucket, cell, epoch);
        }
    }

    #[inline(always)]
    fn touch6(&self, bucket: u32, cell: usize, epoch: u16) {
        if let Some(bucket) = HOSTS6.get_ptr_mut(bucket) {
            stamp(bucket, cell, epoch);
        }
    }

    #[inline(always)]
    fn note(&self, place: u32) {
        if let Some(keys) = keys() {
            keys.noted = place;
        }
    }

    #[inline(always)]
    fn noted(&self) -> u32 {
        keys().map_or(0, |keys| keys.noted)
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentHead> {
        let Part { key: wanted, .. } = part()?;
        *wanted = *key;
        let wanted: &FragmentKey = wanted;
        // SAFETY: copied out at once; LRU elements may be reused by another packet's head, whose verdict is an allowed one, too.
        unsafe { FRAGMENTS.get(wanted) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey, head: &FragmentHead) {
        if let Some(part) = part() {
            *part = Part { key: *key, head: *head };
            let Part { key, head } = &*part;
            // A full table evicts, it does not fail; if memory is short, the later fragments are orphans and counted.
            let _ = FRAGMENTS.insert(key, head, 0);
        }
    }

    #[inline(always)]
    fn reply(&self, key: &FlowKey, tcp_flags: u8) -> bool {
        note(key, Sender::Inside, tcp_flags)
    }
}

/// Writes the two epoch bytes of a host cell, its uppermost 16 bits.
#[inline(always)]
fn stamp(bucket: *mut Bucket, cell: usize, epoch: u16) {
    const EPOCH_BYTE: usize = if cfg!(target_endian = "little") { 6 } else { 0 };
    // SAFETY: the offset is within the bucket and even; a racing store of another CPU writes the same value.
    unsafe { bucket.cast::<u8>().add((cell & 7) * 8 + EPOCH_BYTE).cast::<u16>().write_volatile(epoch) };
}
