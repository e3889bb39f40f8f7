//! A policy as it means, apart from how it was written: what the compiler reads.

use std::{collections::BTreeMap, fmt};

use ipnet::IpNet;

pub use enforcer_ebpf::abi::Action;

use crate::catalog::Pattern;

/// Index into [`Policy::services`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// Index into [`Rules::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// A whole policy file.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Services by [`ServiceId`]; names are unique.
    pub services: Vec<Service>,
    /// What clients behind the gateway may reach.
    pub lan: Rules,
    /// What the gateway itself may reach; allows everything until it is written.
    pub router: Rules,
    /// Connections from outside whose replies may pass: `from` is who connects, `services` is where to. Denies by default.
    pub inbound: Rules,
    /// Whether a source address must belong behind the interface it came from.
    pub strict_sources: bool,
    /// Verdict on later fragments whose head was not allowed.
    pub fragments: Action,
    /// Verdict on what cannot be parsed.
    pub malformed: Action,
    /// Verdict on frames without IP that a LAN does not need to live.
    pub non_ip: Action,
    /// Verdict on what is forwarded from an interface that is not an enforced LAN.
    pub unlisted: Action,
    /// Names of services that rules speak of and that no addresses are known of, by the service: `apple/app-store`.
    pub unresolved: BTreeMap<String, Vec<Pattern>>,
}

/// A named set of destinations and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// Destination prefixes; `any` is written as both families' /0.
    pub to: Vec<IpNet>,
    /// Never empty; [`PortMatch::Any`] where the file says nothing.
    pub ports: Vec<PortMatch>,
}

/// Ordered rules; the first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For what no rule matches.
    pub default: Action,
    /// In the file's order.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As named in the file, if it was.
    pub name: Option<String>,
    /// Line of the rule in the file, from 1.
    pub line: u32,
    /// What it does.
    pub action: Action,
    /// Where to; `None` is any destination and port.
    pub services: Option<Vec<ServiceId>>,
    /// Whose packets; `None` is anyone's.
    pub from: Option<Vec<IpNet>>,
}

impl Rule {
    /// What operators read: the name, or the line.
    #[must_use]
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("line-{}", self.line))
    }
}

/// Transport protocols with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
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
