//! Single packets.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/events`, and each event of `GET /v1/events/stream`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// The latest, oldest first.
    pub events: Vec<Event>,
    /// How many the kernel has not told since the start: more than a thousand a second on a CPU.
    pub lost: u64,
    /// In a stream: how many came since the last message that this reader was too slow for.
    pub behind: u64,
}

/// What became of one packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// RFC 3339, UTC.
    pub time: String,
    /// `allow`, `drop`, `reject` or `monitor`.
    pub action: String,
    /// Where it was judged: `lan`, `router` (the gateway's own), or `unlisted` (forwarded from an interface that is no LAN).
    pub hook: String,
    /// The interface that it came in by; by which it was to leave, if the gateway sent it.
    pub interface: String,
    /// The rule that decided, if one did.
    pub rule: Option<String>,
    /// The service through which it did.
    pub service: Option<String>,
    /// What decided if no rule did: `default`, `source`, `malformed: a header is cut off`.
    pub reason: Option<String>,
    /// Whence and where to, if it is an IP packet.
    pub flow: Option<Flow>,
    /// Names that had the destination address, the first few of them.
    pub names: Vec<String>,
    /// Bytes with the link-layer header.
    pub length: u32,
}

/// Addresses, protocol and ports of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// Source.
    #[schema(value_type = String, example = "192.0.2.1")]
    pub source: IpAddr,
    /// Destination.
    #[schema(value_type = String, example = "192.0.2.1")]
    pub destination: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Source port, if the protocol has ports.
    pub source_port: Option<u16>,
    /// Destination port, likewise.
    pub destination_port: Option<u16>,
    /// Type and code of ICMP and ICMPv6.
    pub icmp: Option<[u8; 2]>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.interface)?;
        if let Some(flow) = &self.flow {
            write!(f, " {flow}")?;
        }
        let comma = if self.flow.is_some() { "," } else { "" };
        match (&self.rule, &self.reason) {
            (Some(rule), _) => write!(f, "{comma} rule {rule}")?,
            (None, Some(reason)) => write!(f, "{comma} {reason}")?,
            (None, None) => {}
        }
        if let Some(service) = &self.service {
            write!(f, ", service {service}")?;
        }
        if self.names.is_empty() { Ok(()) } else { write!(f, ", name {}", self.names.join(" ")) }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |address: IpAddr, port: Option<u16>| match port {
            Some(port) => SocketAddr::new(address, port).to_string(),
            None => address.to_string(),
        };
        let (from, to) = (end(self.source, self.source_port), end(self.destination, self.destination_port));
        write!(f, "{from} -> {to} ")?;
        match (self.protocol, self.icmp) {
            (1, Some([kind, code])) => write!(f, "icmp/{kind}/{code}"),
            (58, Some([kind, code])) => write!(f, "icmpv6/{kind}/{code}"),
            (1, None) => f.write_str("icmp"),
            (58, None) => f.write_str("icmpv6"),
            (6, _) => f.write_str("tcp"),
            (17, _) => f.write_str("udp"),
            (132, _) => f.write_str("sctp"),
            (136, _) => f.write_str("udplite"),
            (number, _) => write!(f, "proto/{number}"),
        }
    }
}
