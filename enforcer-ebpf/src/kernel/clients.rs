//! Who the portal has admitted, as the kernel knows it: by two maps that outlive policies, and by its own clock, so that an admission ends on time whether or not a
//! controller runs.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::generated::bpf_ktime_get_coarse_ns,
    macros::map,
    maps::{HashMap, LpmTrie, lpm_trie::Key},
};

use super::Frame;
use crate::{
    abi::{ClientKey, LongKey, Words6, kind},
    bytes::Bytes as _,
    classify,
    headers::Ethernet,
    parse,
};

#[map]
static ADMITTED: HashMap<ClientKey, u64> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static ADMITTED_NETS: LpmTrie<LongKey, u64> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);

/// Whether the sender of a frame is admitted, by its address or, if the frame has a link-layer header, by its station. The network header's EtherType and offset are
/// the caller's to know.
#[inline(always)]
#[must_use]
pub fn admits(frame: &Frame, ethertype: u16, offset: usize, has_link: bool) -> bool {
    let Some((version, address)) = parse::source(frame, ethertype, offset) else { return false };
    // SAFETY: the helper has no arguments and no effect.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    lasts(&ClientKey { kind: version.into(), address }, now)
        || (has_link && station(frame).is_some_and(|station| lasts(&station, now)))
        || is_in_net(version.into(), address, now)
}

#[inline(always)]
fn lasts(client: &ClientKey, now: u64) -> bool {
    // SAFETY: the value is one aligned word, read at once, and its memory is a map's element for as long as the program runs
    // (RCU). One that is removed meanwhile may become another client's: then that one's time is read, once, by a packet that
    // overtook the removal.
    unsafe { ADMITTED.get(client) }.is_some_and(|until| now < *until)
}

/// The longest prefix decides: user space lets it last as long as those around it.
#[inline(always)]
fn is_in_net(version: u32, mut address: Words6, now: u64) -> bool {
    if version == kind::IPV4 {
        // Prefixes are compared from the front.
        address = [address[3], 0, 0, 0];
    }
    let key = Key::new(160, classify::long_key(version, &address));
    ADMITTED_NETS.get(&key).is_some_and(|until| now < *until)
}

/// The station that a frame is from.
#[inline(always)]
fn station(frame: &Frame) -> Option<ClientKey> {
    let [a, b, c] = frame.read::<Ethernet>(0)?.source.map(|word| u64::from(u16::from_be(word)));
    Some(ClientKey::station(a << 32 | b << 16 | c))
}
