//! Header layouts and protocol numbers, in network byte order.

use bytemuck::{Pod, Zeroable};

/// EtherTypes.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// Slow protocols: LACP, marker, OAM.
    pub const SLOW: u16 = 0x8809;
    /// 802.1X.
    pub const EAPOL: u16 = 0x888e;
    /// LLDP.
    pub const LLDP: u16 = 0x88cc;
    /// Below this, the field is a length and the frame 802.2 (STP).
    pub const FIRST: u16 = 0x0600;
}

/// TCP's flags.
pub mod tcp {
    /// No more data.
    pub const FIN: u8 = 1;
    /// Opens a connection.
    pub const SYN: u8 = 2;
    /// Ends it at once.
    pub const RST: u8 = 4;
    /// Acknowledges.
    pub const ACK: u8 = 16;
}

/// IP protocol numbers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;
}

/// Ethernet.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ethernet {
    /// Receiver.
    pub destination: [u16; 3],
    /// Sender.
    pub source: [u16; 3],
    /// EtherType.
    pub kind: u16,
}

/// An 802.1Q or 802.1ad tag behind its EtherType.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct VlanTag {
    /// Priority and identifier.
    pub control: u16,
    /// The next EtherType.
    pub kind: u16,
}

/// IPv4 without options.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ipv4 {
    /// Version and header length in words.
    pub version_length: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Header and payload, bytes.
    pub total_length: u16,
    /// Identification.
    pub id: u16,
    /// Flags and offset in 8-byte units.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source.
    pub source: u32,
    /// Destination.
    pub destination: u32,
}

/// IPv6.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ipv6 {
    /// Version, traffic class, flow label.
    pub version: u32,
    /// What follows this header, bytes.
    pub payload_length: u16,
    /// Next header.
    pub next: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source.
    pub source: [u32; 4],
    /// Destination.
    pub destination: [u32; 4],
}

/// The first two bytes of an IPv6 extension header with a length.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Extension {
    /// Next header.
    pub next: u8,
    /// Length in 8-byte units, less one.
    pub length: u8,
}

/// IPv6 fragment header.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct FragmentHeader {
    /// Next header.
    pub next: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in 8-byte units above three flag bits.
    pub offset: u16,
    /// Identification.
    pub id: u32,
}

/// Source and destination port, as TCP, UDP, SCTP and UDP-Lite begin.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
}

/// UDP.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Udp {
    /// Ports.
    pub ports: Ports,
    /// Header and payload, bytes.
    pub length: u16,
    /// Checksum.
    pub checksum: u16,
}

/// What is looked at of TCP or UDP, whichever it is: 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Transports {
    /// Both begin so.
    pub ports: Ports,
    /// Header and payload of UDP, bytes; of TCP, a half of the sequence number.
    pub udp_length: u16,
    /// Checksum of UDP; not looked at.
    pub checksum: u16,
    /// UDP payload.
    pub udp_payload: u8,
    /// Not looked at.
    pub between: [u8; 3],
    /// Header length of TCP in words, in the upper half; UDP payload.
    pub tcp_offset: u8,
    /// Flags of TCP; UDP payload.
    pub tcp_flags: u8,
    /// Not looked at.
    pub behind: [u8; 2],
}

/// Headers of untagged frames without options or extensions: each ends at the same place in all of them.
pub trait Fixed {
    /// Bytes from the frame's start to the end of this header.
    const END: usize;
}

/// Nothing, in front of the first header.
impl Fixed for () {
    const END: usize = 0;
}

impl Fixed for Ethernet {
    const END: usize = size_of::<Self>();
}

impl Fixed for Ipv4 {
    const END: usize = Ethernet::END + size_of::<Self>();
}

impl Fixed for Ipv6 {
    const END: usize = Ethernet::END + size_of::<Self>();
}

/// The first 8 bytes of ICMP and ICMPv6.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: u16,
    /// Identifier of an echo.
    pub id: u16,
    /// Sequence number of an echo.
    pub sequence: u16,
}
