//! An independent opinion: what should become of a packet, from a scan of the rules over how the packet was made.
//!
//! Nothing here uses the product's code, not even its types: policies are rendered as text, packets come from a packet-building crate, and the
//! expectation follows from the values they were built of, not from parsing them.
//!
//! What is expected, in this order:
//! 1. A frame cut off in a header, with contradicting lengths, more than two VLAN tags, an IPv4 source route, an IPv6 routing header or neighbour
//!    discovery with a hop limit below 255 is `malformed`.
//! 2. ARP, LACP, EAPOL, LLDP and 802.2 frames pass as `non-ip-exempt`; other frames without IP are `non-ip`.
//! 3. A source that does not belong to the LAN is refused as `source`, but for link-local and unspecified ones on their way to something local.
//! 4. What goes to the gateway, the LAN, multicast, broadcast or (IPv6) link-local passes as `local`; tunnels pass only to a neighbour on the LAN.
//! 5. A later fragment follows its head if that was allowed and does not overlap it; else it is `fragment`.
//! 6. The first rule, in order, whose sources hold the source and one of whose services, in order, holds destination and port; else `default`.

pub mod packets;
pub mod policy;

pub use packets::Frame;
pub use policy::Policy;

/// What is expected of a frame: whether it passes, and which counter says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// It goes on.
    pub passes: bool,
    /// `rule/service`, or the pseudo rule's name.
    pub counter: String,
}

impl Expected {
    fn new(passes: bool, counter: impl Into<String>) -> Self {
        Self { passes, counter: counter.into() }
    }
}
