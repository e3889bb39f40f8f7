//! An independent opinion: what should become of a packet, from a scan of the rules over how the packet was made.
//!
//! Nothing here uses the product's code, not even its types: policies are rendered as text, packets come from a packet-building crate, and the
//! expectation follows from the values they were built of, not from parsing them.
//!
//! What is expected, in this order:
//! 1. A frame cut off in a header, with contradicting lengths, more than two VLAN tags or neighbour discovery with a hop limit below 255 is
//!    `malformed`; an IPv4 source route or an IPv6 routing header is a `source-route`.
//! 2. ARP, LACP, EAPOL, LLDP and 802.2 frames pass as `non-ip-exempt`; other frames without IP are `non-ip`.
//! 3. A source that does not belong to the LAN is refused as `source`, but for link-local and unspecified ones on their way to something local. The
//!    gateway's own packets have no source to doubt, and a policy may say that nobody's is.
//! 4. What goes to the gateway, the LAN, multicast, broadcast or (IPv6) link-local passes as `local`; tunnels pass only to a neighbour on the LAN.
//! 5. A later fragment follows its head if that was allowed and does not overlap it; else it is `fragment`.
//! 6. A client of the portal reaches the portal's services; all else of one that is not admitted, by its address or its station, is `not-admitted`.
//! 7. The first rule, in order, whose sources hold the source and one of whose services, in order, holds destination and port; else `default`.
//! 8. What the rules, or the portal, deny passes as `reply`, if it belongs to a connection from
//!    outside that an inbound rule allowed. Such a connection begins with no ICMP error, and one
//!    of TCP with a SYN alone. Or it passes as `icmp-error`, if it is one
//!    about a packet to its sender that came in such a connection or in one that the rules allow.
//! 9. What is denied passes all the same if the rule, or the whole policy, monitors. Rules with a schedule apply in the minutes that it names.

mod damaged;
pub mod dissect;
mod frames;
mod headers;
pub mod net;
pub mod policy;
pub mod portal;
pub mod world;

pub use frames::Generator;
pub use headers::ETHERNET;
pub use policy::Policy;

/// Where all chance comes from: the same on every machine.
pub type Random = rand_chacha::ChaCha8Rng;

/// What is expected of a frame: whether it passes, and which counter says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// It goes on.
    pub passes: bool,
    /// A rule, or what comes before them, lets it; else it passes only because it is watched.
    allowed: bool,
    /// `rule/service`, or the pseudo rule's name.
    pub counter: String,
}

impl Expected {
    fn new(allowed: bool, counter: impl Into<String>) -> Self {
        Self { passes: allowed, allowed, counter: counter.into() }
    }

    /// It passes in any case, if it is only watched.
    fn watched(self, watched: bool) -> Self {
        Self { passes: self.passes || watched, ..self }
    }
}

/// Where a frame is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// From a client.
    Lan(LanProgram),
    /// From the gateway itself, to the internet.
    Router,
    /// From the internet, as the WAN receives it.
    Outside,
    /// From the internet, on its way to a client.
    Forwarded,
}

/// Which program sees clients' frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanProgram {
    /// XDP with a frame in one buffer.
    Xdp,
    /// XDP with frames that may span buffers.
    XdpFrags,
    /// TCX ingress.
    Tc,
}

/// A frame and what is expected of it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where it is seen.
    pub hook: Hook,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What should become of it; what comes from outside passes uncounted.
    pub expected: Option<Expected>,
    /// How it was made, for reports.
    pub what: String,
}
