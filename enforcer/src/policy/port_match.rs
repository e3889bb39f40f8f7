//! Which packets of a protocol are meant.

use std::fmt;

/// Transport protocols with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// UDP-Lite.
    UdpLite,
}

/// Which of a protocol's packets a service takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortMatch {
    /// Every protocol and port.
    Any,
    /// Destination ports, both ends included.
    Ports {
        /// The protocol.
        transport: Transport,
        /// Lowest port.
        first: u16,
        /// Highest port, not below `first`.
        last: u16,
    },
    /// ICMP (over IPv4) by type and code; `None` is any.
    Icmp {
        /// ICMP type.
        kind: Option<u8>,
        /// Its code; only with a type.
        code: Option<u8>,
    },
    /// ICMPv6 by type and code; `None` is any.
    Icmpv6 {
        /// ICMPv6 type.
        kind: Option<u8>,
        /// Its code; only with a type.
        code: Option<u8>,
    },
    /// A protocol without ports, by its number; never one of those above.
    Protocol(u8),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::UdpLite => "udplite",
        })
    }
}

/// As it is written in a policy file.
impl fmt::Display for PortMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let icmp = |f: &mut fmt::Formatter<'_>, name, kind: Option<u8>, code: Option<u8>| match (kind, code) {
            (Some(kind), Some(code)) => write!(f, "{name}/{kind}/{code}"),
            (Some(kind), None) => write!(f, "{name}/{kind}"),
            _ => f.write_str(name),
        };
        match *self {
            Self::Any => f.write_str("any"),
            Self::Ports { transport, first: 0, last: u16::MAX } => write!(f, "{transport}"),
            Self::Ports { transport, first, last } if first == last => write!(f, "{transport}/{first}"),
            Self::Ports { transport, first, last } => write!(f, "{transport}/{first}-{last}"),
            Self::Icmp { kind, code } => icmp(f, "icmp", kind, code),
            Self::Icmpv6 { kind, code } => icmp(f, "icmpv6", kind, code),
            Self::Protocol(number) => write!(f, "proto/{number}"),
        }
    }
}
