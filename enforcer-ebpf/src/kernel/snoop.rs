//! Answers of resolvers to clients that asked them, copied for user space.
//!
//! An answer counts if a resolver that user space named sent it, from where that resolver is, to a client whose query passed lately. Then whoever
//! can teach an address can as well answer the client.

use core::slice;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_skb_load_bytes, generated::bpf_ktime_get_coarse_ns},
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use bytemuck::Pod;

use super::{net, tables::Tables};
use crate::{
    abi::{
        Net, Words6,
        dns::{LONGEST_ANSWER, PATIENCE, QueryKey, outcome},
        place,
    },
    address::Address as _,
    bounded::bounded,
    bytes::Bytes,
    headers::{Ethernet, tcp},
    parse,
    snoop::{self, Carrier, Load, Message, PORT, START},
    verdict::interface,
};

/// Resolvers whose answers count, by address.
#[map]
static RESOLVERS: HashMap<Words6, u32> = HashMap::with_max_entries(1, 0);
#[map]
static QUERIES: LruHashMap<QueryKey, u64> = LruHashMap::with_max_entries(1, 0);
/// Until when clients and stations have used what they earned, in nanoseconds.
#[map]
static ASKERS: LruHashMap<Words6, u64> = LruHashMap::with_max_entries(1, 0);
/// Apart from events: a flood of those starves no answer.
#[map]
static ANSWERS: RingBuf = RingBuf::with_byte_size(1 << 12, 0);
#[map]
static OUTCOMES: PerCpuArray<u64> = PerCpuArray::with_max_entries(outcome::COUNT, 0);
/// The message being looked at.
#[map]
static MESSAGE: PerCpuArray<[u8; LONGEST_ANSWER]> = PerCpuArray::with_max_entries(1, 0);

/// So many queries at once, each earned back in so many nanoseconds.
struct Budget {
    burst: u64,
    earned_in: u64,
}

/// Of one address: a device that starts asks for dozens of names.
const CLIENT: Budget = Budget { burst: 200, earned_in: 10_000_000 };
/// Of one station, who may have any number of addresses, or any number of clients behind it; of a device without link-layer addresses, as a whole. What it
/// earns while a query waits is a third of the table.
const STATION: Budget = Budget { burst: 2000, earned_in: 500_000 };

/// An skb's bytes, by a call for each header: they may lie outside its linear part.
struct Skb(*mut __sk_buff);

impl Bytes for Skb {
    #[inline(always)]
    fn size(&self) -> usize {
        // SAFETY: the context is the program's own, by the word of who made this value.
        unsafe { (*self.0).len as usize }
    }

    #[inline(always)]
    fn read<T: Pod>(&self, offset: usize) -> Option<T> {
        let mut value = T::zeroed();
        // SAFETY: as above; the helper writes as many bytes as the value has, of which any are one.
        let refused =
            unsafe { bpf_skb_load_bytes(self.0.cast(), offset as u32, (&raw mut value).cast(), size_of::<T>() as u32) };
        (refused == 0).then_some(value)
    }
}

impl Skb {
    /// What it carries; `kind` is the network header's EtherType if the data begin with that.
    #[inline(always)]
    fn carrier(&self, kind: Option<u16>) -> Option<Carrier> {
        let (kind, offset) = kind.map_or_else(|| parse::link(self).ok(), |kind| Some((kind, 0)))?;
        snoop::carrier(self, kind, offset)
    }

    /// Copies at most `MASK + 1` bytes of a datagram to the start of this CPU's message; they are there until the next copy.
    #[inline(always)]
    fn load<const MASK: usize>(
        &self,
        &Carrier { offset, length, .. }: &Carrier,
    ) -> Option<(&'static mut [u8; LONGEST_ANSWER], usize)> {
        // SAFETY: this CPU's own; programs on one CPU do not preempt each other at these hooks.
        let message = unsafe { MESSAGE.get_ptr_mut(0)?.as_mut()? };
        if length == 0 {
            return None;
        }
        // A count of zero is no count, for the verifier.
        let count = bounded::<MASK>(length.min(MASK + 1) - 1) + 1;
        // SAFETY: the context is the program's own; the message has room for the count.
        let refused =
            unsafe { bpf_skb_load_bytes(self.0.cast(), offset as u32, message.as_mut_ptr().cast(), count as u32) };
        (refused == 0).then_some((message, count))
    }

    /// The start of a message.
    #[inline(always)]
    fn message(&self, carrier: &Carrier) -> Option<Message> {
        let (bytes, count) = self.load::<{ START - 1 }>(carrier)?;
        Message::read(bytes.first_chunk()?, count)
    }
}

/// Remembers a client's query until it is answered.
///
/// # Safety
/// The context is the running program's own.
#[inline(always)]
pub unsafe fn query(skb: *mut __sk_buff, kind: Option<u16>) {
    // SAFETY: the caller's word.
    count(unsafe { remember(skb, kind) });
}

/// Hands over a resolver's answer that was asked for.
///
/// # Safety
/// As [`query`].
#[inline(always)]
pub unsafe fn answer(skb: *mut __sk_buff, kind: Option<u16>) {
    // SAFETY: the caller's word.
    count(unsafe { take(skb, kind) });
}

#[inline(always)]
unsafe fn remember(skb: *mut __sk_buff, kind: Option<u16>) -> Option<u32> {
    let frame = Skb(skb);
    let carrier = frame.carrier(kind)?;
    if carrier.load != Load::Datagram || carrier.destination_port != PORT || !is_resolver(&carrier.destination) {
        return None;
    }
    // SAFETY: the caller's word.
    let mut station = [u32::MAX, unsafe { (*skb).ifindex }, 0, 0];
    if kind.is_none() {
        let [a, b, c] = frame.read::<Ethernet>(0)?.source;
        (station[2], station[3]) = (a.into(), u32::from(b) << 16 | u32::from(c));
    }
    if !CLIENT.take(&carrier.source) || !STATION.take(&station) {
        return Some(outcome::OVER_LIMIT);
    }
    let message = frame.message(&carrier).filter(|message| !message.is_answer)?;
    let key = &key(carrier.source, carrier.destination, carrier.source_port, &message);
    // A full table evicts what has waited for long, it does not fail.
    let _ = QUERIES.insert(key, now(), 0);
    None
}

#[inline(always)]
unsafe fn take(skb: *mut __sk_buff, kind: Option<u16>) -> Option<u32> {
    let frame = Skb(skb);
    let carrier = frame.carrier(kind)?;
    if carrier.source_port != PORT || !is_resolver(&carrier.source) {
        return None;
    }
    // SAFETY: the caller's word.
    if !comes_from_there(net()?, &carrier, unsafe { (*skb).ingress_ifindex })? {
        return Some(outcome::FORGED);
    }
    match carrier.load {
        Load::Datagram => {}
        Load::Fragment => return Some(outcome::FRAGMENTED),
        Load::Segment => return (carrier.tcp_flags & OPENED == OPENED).then_some(outcome::TCP),
    }
    let Some(message) = frame.message(&carrier).filter(|message| message.is_answer) else {
        return Some(outcome::MALFORMED);
    };
    let key = &key(carrier.destination, carrier.source, carrier.destination_port, &message);
    // SAFETY: the value is copied out at once. Should its element just become another key's, the removal fails.
    let asked = unsafe { QUERIES.get(key) }.copied();
    // Only one answer is the answer: whoever removes the query has it.
    if QUERIES.remove(key).is_err() || asked.is_none_or(|asked| now().saturating_sub(asked) > PATIENCE) {
        return Some(outcome::UNASKED);
    }
    if message.truncated {
        return Some(outcome::TRUNCATED);
    }
    if carrier.length > LONGEST_ANSWER {
        return Some(outcome::TOO_LONG);
    }
    let (bytes, count) = frame.load::<{ LONGEST_ANSWER - 1 }>(&carrier)?;
    // SAFETY: the count is no more than there are.
    let bytes = unsafe { slice::from_raw_parts(bytes.as_ptr(), count) };
    Some(if ANSWERS.output::<[u8]>(bytes, 0).is_ok() { outcome::TAKEN } else { outcome::LOST })
}

/// How a server accepts a connection.
const OPENED: u8 = tcp::SYN | tcp::ACK;

/// Whether a packet in a resolver's name comes from where the resolver is: the gateway, if it is its own address; else a WAN, or the gateway, which answers for
/// resolvers whose queries it takes to itself (redirection).
#[inline(always)]
fn comes_from_there(net: &'static Net, carrier: &Carrier, ingress: u32) -> Option<bool> {
    if ingress == 0 {
        return Some(true);
    }
    let from = interface(net, ingress);
    if from.index != ingress || from.zone != 0 {
        return Some(false);
    }
    let tables = Tables::<false>(net);
    let place = if carrier.is_v4 {
        carrier.source[3].place(&tables, net, place::BELOW)
    } else {
        carrier.source.place(&tables, net, place::BELOW)
    };
    Some(place? & place::OWN == 0)
}

#[inline(always)]
fn is_resolver(address: &Words6) -> bool {
    RESOLVERS.get_ptr(address).is_some()
}

#[inline(always)]
fn key(client: Words6, resolver: Words6, port: u16, message: &Message) -> QueryKey {
    let Message { id, question, .. } = *message;
    QueryKey { client, resolver, question, id, port, reserved: 0 }
}

impl Budget {
    /// Takes one query's worth of somebody's, if there is one. CPUs that do so at the same moment may give away one too many.
    #[inline(always)]
    fn take(&self, who: &Words6) -> bool {
        let now = now();
        let least = now.saturating_sub(self.burst * self.earned_in);
        let Some(used) = ASKERS.get_ptr_mut(who) else {
            return ASKERS.insert(who, least + self.earned_in, 0).is_ok();
        };
        // SAFETY: map values are aligned, and read and written whole.
        unsafe {
            let next = used.read_volatile().max(least) + self.earned_in;
            if next > now {
                return false;
            }
            used.write_volatile(next);
        }
        true
    }
}

/// The kernel's coarse monotonic clock in nanoseconds.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no arguments and no effect.
    unsafe { bpf_ktime_get_coarse_ns() }
}

#[inline(always)]
fn count(outcome: Option<u32>) {
    if let Some(outcome) = outcome
        && let Some(count) = OUTCOMES.get_ptr_mut(outcome)
    {
        // SAFETY: this CPU's own; programs on one CPU do not preempt each other at these hooks.
        unsafe { *count += 1 };
    }
}
