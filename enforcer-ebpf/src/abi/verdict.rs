//! Verdict words, and what counts them.

use bytemuck::{Pod, Zeroable};

/// A packet's fate with the counter that records it, as stored in rows.
///
/// | bits | meaning |
/// |---|---|
/// | 0–23 | counter |
/// | 24–25 | action |
/// | 26–31 | sampling: 0 makes no events, else the element of `SAMPLES` that says one in how many packets does; 63 is no word |
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Verdict(pub u32);

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It goes on.
    Allow,
    /// It vanishes.
    Drop,
    /// Its sender is told at once.
    Reject,
    /// It goes on, though a rule would have denied it.
    Monitor,
}

impl Action {
    /// Whether the packet goes on.
    #[must_use]
    #[inline(always)]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Allow | Self::Monitor)
    }
}

impl Verdict {
    /// The largest counter index.
    pub const MAX_COUNTER: u32 = (1 << 24) - 1;

    /// A verdict from its parts; the counter's upper 8 bits are cut off.
    #[must_use]
    #[inline(always)]
    pub const fn new(action: Action, counter: u32) -> Self {
        Self((action as u32) << 24 | counter & Self::MAX_COUNTER)
    }

    /// The sampling by which every packet makes an event.
    pub const EACH: u32 = 1;
    /// Number of sampling rates, zero included.
    pub const SAMPLINGS: u32 = 63;

    /// The same with events at a sampling rate.
    #[must_use]
    #[inline(always)]
    pub const fn sampled(self, sampling: u32) -> Self {
        Self(self.0 & !(0x3f << 26) | sampling << 26)
    }

    /// The sampling rate's number.
    #[must_use]
    #[inline(always)]
    pub const fn sampling(self) -> u32 {
        self.0 >> 26
    }

    /// Whether it is allowed and makes no event: what nearly every packet's is.
    #[must_use]
    #[inline(always)]
    pub const fn passes_unseen(self) -> bool {
        self.0 <= Self::MAX_COUNTER
    }

    /// The counter to add to.
    #[must_use]
    #[inline(always)]
    pub const fn counter(self) -> u32 {
        self.0 & Self::MAX_COUNTER
    }

    /// The action.
    #[must_use]
    #[inline(always)]
    pub const fn action(self) -> Action {
        match self.0 >> 24 & 3 {
            0 => Action::Allow,
            1 => Action::Drop,
            2 => Action::Reject,
            _ => Action::Monitor,
        }
    }
}

/// Counters of what no rule names; the policies' clauses follow from [`pseudo::COUNT`] on.
pub mod pseudo {
    /// No rule of the LAN policy matched.
    pub const DEFAULT: u32 = 0;
    /// No rule of the router policy matched.
    pub const ROUTER_DEFAULT: u32 = 1;
    /// To the gateway, a connected LAN, multicast, broadcast or link-local.
    pub const LOCAL: u32 = 2;
    /// ARP, link-layer control protocols and other frames without IP that keep a LAN alive.
    pub const NON_IP_EXEMPT: u32 = 3;
    /// Any other frame without IP.
    pub const NON_IP: u32 = 4;
    /// Truncated or inconsistent headers.
    pub const MALFORMED: u32 = 5;
    /// A later fragment whose head was not seen or not allowed, or that overlaps it.
    pub const FRAGMENT: u32 = 6;
    /// A source address that does not belong behind the interface it came from.
    pub const SOURCE: u32 = 7;
    /// A reply to a connection from outside that the inbound policy names.
    pub const REPLY: u32 = 8;
    /// Forwarded by way of an interface that no policy covers.
    pub const UNLISTED: u32 = 9;
    /// The tables contradict themselves: a defect, always dropped.
    pub const FAULT: u32 = 10;
    /// An ICMP error about a connection that may be.
    pub const ICMP_ERROR: u32 = 11;
    /// IPv4 source routes and IPv6 routing headers.
    pub const SOURCE_ROUTE: u32 = 12;
    /// A later fragment of a packet whose head another policy allowed, before this one.
    pub const EARLIER: u32 = 13;
    /// From a client that is to be admitted by the portal, and is not; its action is the portal's.
    pub const UNADMITTED: u32 = 14;
    /// How many there are.
    pub const COUNT: u32 = 15;
    /// Their names, by index, as operators read them.
    pub const NAMES: [&str; COUNT as usize] = [
        "default",
        "router-default",
        "local",
        "non-ip-exempt",
        "non-ip",
        "malformed",
        "fragment",
        "source",
        "reply",
        "unlisted",
        "fault",
        "icmp-error",
        "source-route",
        "earlier-policy",
        "not-admitted",
    ];
}

/// A rule's counter on one CPU. `COUNTERS` has all counters of the first CPU, then those of the next, and behind the last CPU's those that user space
/// carries over from the policy before, which no program adds to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counter {
    /// Packets as they were on the wire: the segments of a super-packet count one by one.
    pub packets: u64,
    /// Bytes from the link-layer header on.
    pub bytes: u64,
}
