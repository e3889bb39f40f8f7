//! What IPv4 and IPv6 addresses have in common, so that each family's way is compiled for itself.

use crate::{
    abi::{NET_WORDS, NODE_WORDS, Net, PolicyId, Verdict, Words6, place},
    bounded::bounded,
    classify,
    maps::{self, Maps, Tries},
};

/// An address of either family, in host byte order.
pub trait Address: Copy + Eq {
    /// Its IP version.
    const VERSION: u8;
    /// No address yet.
    const UNSPECIFIED: Self;
    /// The upper 16 bits.
    fn root(self) -> usize;
    /// As a key of tables that both families share: IPv4 in the last word.
    fn words(self) -> Words6;
    /// Whether something local shares its upper bits: a question that most destinations end with.
    fn is_near(self, net: &Net) -> bool;
    /// What is known of it (bits of [`crate::abi::place`]); `below` says which IPv6 prefixes beyond /64 matter.
    fn place(self, maps: &impl Maps, net: &Net, below: u32) -> Option<u32>;
    /// What a policy says of a packet with these addresses and port cell.
    fn judge(maps: &impl Maps, policy: PolicyId, source: Self, destination: Self, port: u32) -> Option<Verdict>;
}

impl Address for u32 {
    const VERSION: u8 = 4;
    const UNSPECIFIED: Self = 0;

    #[inline(always)]
    fn root(self) -> usize {
        (self >> 16) as usize
    }

    #[inline(always)]
    fn words(self) -> Words6 {
        [0, 0, 0, self]
    }

    #[inline(always)]
    fn is_near(self, net: &Net) -> bool {
        // The shift is the bound, which the verifier sees.
        maps::cell(&net.near4[(self >> 24) as usize]) != 0
    }

    #[inline(always)]
    fn place(self, _: &impl Maps, net: &Net, _: u32) -> Option<u32> {
        classify::walk4(maps::cell(&net.place4[bounded::<0xffff>(self.root())]), self, &NetTries(net))
    }

    #[inline(always)]
    fn judge(maps: &impl Maps, policy: PolicyId, source: Self, destination: Self, port: u32) -> Option<Verdict> {
        maps.judge4(policy, source, destination, port)
    }
}

impl Address for Words6 {
    const VERSION: u8 = 6;
    const UNSPECIFIED: Self = [0; 4];

    #[inline(always)]
    fn root(self) -> usize {
        (self[0] >> 16) as usize
    }

    #[inline(always)]
    fn words(self) -> Words6 {
        self
    }

    #[inline(always)]
    fn is_near(self, net: &Net) -> bool {
        let root = self.root();
        maps::cell(&net.near6[root >> 5]) >> (root & 31) & 1 != 0
    }

    #[inline(always)]
    fn place(self, maps: &impl Maps, net: &Net, below: u32) -> Option<u32> {
        let found = classify::walk6(maps::cell(&net.place6[bounded::<0xffff>(self.root())]), &self, &NetTries(net))?;
        if found & below == 0 {
            let bit = host_bit(&self);
            if found & place::HOSTS_BELOW == 0 || maps::cell(&net.hosts6[bit >> 5]) >> (bit & 31) & 1 == 0 {
                return Some(found);
            }
        }
        Some(maps.place6(&self).unwrap_or(found))
    }

    #[inline(always)]
    fn judge(maps: &impl Maps, policy: PolicyId, source: Self, destination: Self, port: u32) -> Option<Verdict> {
        maps.judge6(policy, &source, &destination, port)
    }
}

/// An IPv6 address from its halves.
#[inline(always)]
#[must_use]
pub const fn words(high: u64, low: u64) -> Words6 {
    [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32]
}

/// An address's bit in [`Net::hosts6`], by the half that tells it from its neighbours.
#[inline(always)]
#[must_use]
pub const fn host_bit(address: &Words6) -> usize {
    ((address[2] ^ address[3]).wrapping_mul(0x9E37_79B1) >> 21) as usize
}

/// The network's tries.
struct NetTries<'a>(&'a Net);

impl Tries for NetTries<'_> {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u32> {
        Some(maps::cell(&self.0.words[bounded::<{ NET_WORDS - 1 }>(index as usize)]))
    }

    #[inline(always)]
    fn node(&self, cell: u32) -> Option<[u32; NODE_WORDS]> {
        Some(maps::node(&self.0.words, cell as usize & (NET_WORDS - NODE_WORDS)))
    }
}
