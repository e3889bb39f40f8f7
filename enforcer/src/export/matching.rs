//! What packets a clause takes, in the words of nftables.

use ipnet::IpNet;

use super::{
    ports::{self, Ports},
    sets,
};
use crate::policy::{Policy, Service};

/// A family of addresses, and which way packets go.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// IPv6.
    pub v6: bool,
    /// Replies: where the rule speaks of senders, they are destinations.
    pub reply: bool,
}

/// Both families.
pub const fn ways(reply: bool) -> [Way; 2] {
    [Way { v6: false, reply }, Way { v6: true, reply }]
}

impl Way {
    const fn ip(self) -> &'static str {
        if self.v6 { "ip6" } else { "ip" }
    }

    const fn family(self) -> &'static str {
        if self.v6 { "meta nfproto ipv6" } else { "meta nfproto ipv4" }
    }

    /// The ends that a rule calls `from` and `to`.
    const fn ends(self) -> [&'static str; 2] {
        if self.reply { ["daddr", "saddr"] } else { ["saddr", "daddr"] }
    }

    /// Who it is about: `None` if nobody of this family.
    pub fn from(self, from: Option<&[IpNet]>) -> Option<String> {
        let Some(from) = from else { return Some(String::new()) };
        let nets = sets::of_family(from, self.v6);
        if nets.first()?.prefix_len() == 0 {
            return Some(self.family().into());
        }
        Some(format!("{} {} {}", self.ip(), self.ends()[0], list(&nets)))
    }

    /// Where a service is: its set of prefixes, and that of its names' addresses.
    pub fn to(self, policy: &Policy, service: &Service) -> Vec<String> {
        let end = self.ends()[1];
        let nets = sets::of_family(&policy.destinations(service), self.v6);
        let prefixes = nets.first().map(|net| match net.prefix_len() {
            0 => self.family().to_owned(),
            _ => format!("{} {end} @{}", self.ip(), sets::prefixes(service, self.v6)),
        });
        // Names do not help rules about what is inside.
        let named = !self.reply && !service.names.is_empty();
        let names = named.then(|| format!("{} {end} @{}", self.ip(), sets::told(policy, service, self.v6)));
        prefixes.into_iter().chain(names).collect()
    }

    /// Its ports, a match each; an empty one is all packets.
    pub fn ports(self, ports: &Ports) -> Vec<String> {
        if ports.any {
            return vec![String::new()];
        }
        let port = if self.reply { "sport" } else { "dport" };
        let mut matches = Vec::new();
        let mut protocols: Vec<String> = Vec::new();
        for (transport, ranges) in &ports.ranges {
            if ranges == ports::ALL {
                protocols.push(transport.to_string());
            } else {
                let ranges: Vec<String> = ranges.iter().map(ports::range).collect();
                matches.push(format!("{transport} {port} {}", list(&ranges)));
            }
        }
        let (name, number, kinds) = if self.v6 { ("icmpv6", "58", &ports.icmpv6) } else { ("icmp", "1", &ports.icmp) };
        for (kind, code) in kinds {
            match (kind.map(|kind| if self.reply { answer(kind) } else { Some(kind) }), code) {
                (None, _) => protocols.push(number.into()),
                (Some(Some(kind)), Some(code)) => matches.push(format!("{name} type {kind} {name} code {code}")),
                (Some(Some(kind)), None) => matches.push(format!("{name} type {kind}")),
                // Nothing answers it.
                (Some(None), _) => {}
            }
        }
        protocols.extend(ports.protocols.iter().map(ToString::to_string));
        if !protocols.is_empty() {
            matches.insert(0, format!("meta l4proto {}", list(&protocols)));
        }
        matches
    }
}

/// The type of the message that answers one (RFC 792, RFC 950, RFC 4443): other kinds make no connection.
const fn answer(kind: u8) -> Option<u8> {
    match kind {
        8 => Some(0),
        13 => Some(14),
        15 => Some(16),
        17 => Some(18),
        128 => Some(129),
        _ => None,
    }
}

/// One thing as it is, several as a set.
pub fn list<T: ToString>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(ToString::to_string).collect();
    match words.as_slice() {
        [word] => word.clone(),
        words => format!("{{ {} }}", words.join(", ")),
    }
}
