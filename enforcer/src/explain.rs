//! Why a packet would be allowed or denied: the kernel's own code, run on the compiled image.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use enforcer_ebpf::{
    abi::{NET_BLOCKS, Verdict, Words6, pseudo, slot},
    address::Address,
    headers::protocol,
    parse::{Fragment, Packet, Sink as _},
    verdict::{Judge, Origin},
};
use ipnet::IpNet;
use serde::Serialize;

use crate::{
    catalog::Pattern,
    compile::{Addresses, Image, NoRoom},
    dns::{Name, Patterns},
    net::{
        Facts, NetImage,
        image::{Roles, Words},
    },
    policy::{Action, Policy, PortMatch, Service, ServiceId, Transport, nat64, words},
};

/// What is known of a client and the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is admitted.
    Yes,
    /// It is not.
    No,
    /// It is not by its address. Others are by their MAC, which a question does not have.
    NotByAddress,
    /// Who is was not told: it is taken not to be.
    Untold,
}

/// A packet that one asks about.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The gateway itself sends it, not a client.
    pub router: bool,
    /// Whether the portal has admitted the client.
    pub admitted: Admitted,
    /// The client; without one, the unspecified address, which rules name only by covering every source.
    pub from: Option<IpAddr>,
    /// Destination.
    pub to: IpAddr,
    /// Protocol and port, of the kind that names one packet.
    pub port: PortMatch,
}

/// The verdict and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `allow`, `drop`, `reject` or `monitor`.
    pub action: &'static str,
    /// Whether the packet goes on.
    pub passes: bool,
    /// The rule that decided, by name or line; nothing if it is the default.
    pub rule: Option<String>,
    /// The service through which it did.
    pub service: Option<String>,
    /// The destination prefix of the service that covers the address.
    pub prefix: Option<String>,
    /// If no prefix does: the name of the service that the address has.
    pub name: Option<String>,
    /// A sentence for people.
    pub why: String,
}

/// Why a question has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Source and destination are of different families.
    #[error("{0} and {1} are of different families: a packet has one")]
    Families(IpAddr, IpAddr),
    /// ICMP and ICMPv6 are each of one family.
    #[error("{0} does not go to {1}: ICMP is IPv4's, ICMPv6 is IPv6's")]
    Icmp(PortMatch, IpAddr),
    /// The port is a range or a whole protocol.
    #[error("{0} is more than one packet: name one port, such as tcp/443, one ICMP type or one protocol number")]
    Port(PortMatch),
    /// The tables contradict themselves.
    #[error("the compiled tables contradict themselves; please report this policy")]
    Fault,
}

/// Makes an address one of the services that these names are of, in an image that was compiled with room for learned addresses.
///
/// # Errors
/// If the tables are full.
pub fn know(policy: &Policy, image: &mut Image, address: IpAddr, names: &[Name]) -> Result<(), NoRoom> {
    let named = policy.named().flat_map(|(id, service)| service.names.iter().map(move |name| (name.clone(), id)));
    let patterns: Patterns<ServiceId> = named.collect();
    let services: BTreeSet<ServiceId> = names.iter().flat_map(|name| patterns.matches(name)).copied().collect();
    let services: Vec<ServiceId> = services.into_iter().collect();
    let mut live = std::mem::take(&mut image.live);
    let address = nat64::inside(&policy.nat64, address);
    let known = Addresses::new(&policy.nat64).set(image, &mut live, address, &services, false, 0);
    image.live = live;
    known
}

/// The verdict on a packet at the image's moment; `names` are those that its destination is [known](know) by. Multicast, broadcast and link-local destinations are exempt before any rule, as everywhere; the addresses of a
/// gateway and its LANs, which are exempt as well, are not known here.
///
/// # Errors
/// If the question is not about one possible packet.
pub fn explain(policy: &Policy, image: &Image, question: &Question, names: &[Name]) -> Result<Explanation, NoAnswer> {
    let verdict = judge(image, question)?;
    let (action, passes) = (words::name(verdict.action()), verdict.action().passes());
    let rules = if question.router { &policy.router } else { &policy.lan };
    let Some(counted) = verdict.counter().checked_sub(pseudo::COUNT) else {
        let why = match verdict.counter() {
            pseudo::LOCAL => "multicast, broadcast and link-local destinations are exempt from the rules".into(),
            pseudo::DEFAULT | pseudo::ROUTER_DEFAULT => {
                format!("no rule names this destination, port and source; the default is {action}")
            }
            pseudo::UNADMITTED => {
                let verb = if passes { "would only reach" } else { "only reaches" };
                let rule = rules.rules.iter().find(|rule| rule.closes()).ok_or(NoAnswer::Fault)?;
                let known = match question.admitted {
                    Admitted::NotByAddress => {
                        "the client is not admitted by its address, and may be by its MAC (see `enforcer clients`)"
                    }
                    Admitted::Untold => "who is admitted is not known here (--admitted asks for one who is)",
                    Admitted::Yes | Admitted::No => "the client is not admitted (see `enforcer admit`)",
                };
                format!("{known}: until it is, a client {verb} the portal's services (line {})", rule.line)
            }
            _ => return Err(NoAnswer::Fault),
        };
        return Ok(Explanation { action, passes, rule: None, service: None, prefix: None, name: None, why });
    };
    let (_, counted) = image.counters.get(counted as usize).ok_or(NoAnswer::Fault)?;
    let rule = rules.rules.get(counted.rule.0 as usize).ok_or(NoAnswer::Fault)?;
    let service = counted.service.map(|service| &policy.services[service.0 as usize]);
    let inside = nat64::inside(&policy.nat64, question.to);
    let covering = service.and_then(|service| {
        let covers = |net: &&IpNet| net.contains(&question.to) || net.contains(&inside);
        service.to.iter().filter(covers).max_by_key(|net| net.prefix_len())
    });
    let named = service.filter(|_| covering.is_none()).and_then(|service| named(service, names));
    let verb = match (verdict.action(), rule.action) {
        (Action::Allow, _) => "allows",
        (Action::Drop, _) => "drops",
        (Action::Reject, _) => "rejects",
        (Action::Monitor, Action::Reject) => "would reject, but only monitors,",
        (Action::Monitor, _) => "would drop, but only monitors,",
    };
    let place = rule.file.as_ref().map_or_else(String::new, |file| format!("{file}, "));
    let mut why = format!("rule {} ({place}line {}) {verb} ", rule.label(), rule.line);
    why += &match (service, covering, named) {
        (Some(service), Some(net), _) => format!("service {}, whose {net} covers {}", service.name, question.to),
        (Some(service), None, Some((pattern, name))) if pattern.is_wildcard() => {
            format!("service {}, whose {pattern} covers {name}", service.name)
        }
        (Some(service), None, Some((_, name))) => format!("service {}, which has {name}", service.name),
        _ => "every destination and port".into(),
    };
    if let Some(when) = rule.when {
        why += &format!(", while {}", policy.schedules[when.0 as usize].name);
    }
    Ok(Explanation {
        action,
        passes,
        rule: Some(rule.label()),
        service: service.map(|service| service.name.clone()),
        prefix: covering.map(ToString::to_string),
        name: named.map(|(_, name)| name.to_string()),
        why,
    })
}

/// The first of the names that a service has, with its pattern that covers it.
fn named<'a>(service: &'a Service, names: &'a [Name]) -> Option<(&'a Pattern, &'a Name)> {
    let patterns: Patterns<&Pattern> = service.names.iter().map(|pattern| (pattern.clone(), pattern)).collect();
    names.iter().find_map(|name| Some((*patterns.matches(name).next()?, name)))
}

fn judge(image: &Image, question: &Question) -> Result<Verdict, NoAnswer> {
    match (question.port, question.to) {
        (port @ PortMatch::Icmp { .. }, to @ IpAddr::V6(_)) | (port @ PortMatch::Icmpv6 { .. }, to @ IpAddr::V4(_)) => {
            return Err(NoAnswer::Icmp(port, to));
        }
        _ => {}
    }
    match (question.from, question.to) {
        (None, IpAddr::V4(to)) => ask(image, question, 0, u32::from(to)),
        (None, IpAddr::V6(to)) => ask(image, question, [0; 4], words6(to)),
        (Some(IpAddr::V4(from)), IpAddr::V4(to)) => ask(image, question, from.into(), u32::from(to)),
        (Some(IpAddr::V6(from)), IpAddr::V6(to)) => ask(image, question, words6(from), words6(to)),
        (Some(from), to) => Err(NoAnswer::Families(from, to)),
    }
}

/// Judges the packet on a gateway without interfaces, where no source is checked.
fn ask<A: Address>(image: &Image, question: &Question, source: A, destination: A) -> Result<Verdict, NoAnswer> {
    let words = Words { strict_sources: false, ..image.words };
    let nowhere = NetImage::new(&Facts::default(), &Roles::default(), words).map_err(|_| NoAnswer::Fault)?;
    let net = nowhere.at(0, NET_BLOCKS).map_err(|_| NoAnswer::Fault)?;
    let (protocol, port) = port_cell(question.port)?;
    let (source_port, destination_port, fragment) = (0, port as u16, Fragment::NONE);
    let origin = if question.router { Origin::Router } else { Origin::Lan(0) };
    // The first packet of a connection.
    let (tcp_flags, stands) = (0, 0);
    let packet =
        Packet { source, destination, protocol, port, source_port, destination_port, tcp_flags, stands, fragment };
    let admitted = question.admitted == Admitted::Yes;
    Ok(Judge { maps: image, net: &net, origin, believed: false, admitted, replies: true }.ip(&packet))
}

/// Protocol and port cell of the one kind of packet that a word names.
fn port_cell(port: PortMatch) -> Result<(u8, u32), NoAnswer> {
    let icmp = |kind, code: Option<u8>| u16::from(kind) << 8 | u16::from(code.unwrap_or(0));
    let (protocol, slot, selector) = match port {
        PortMatch::Ports { transport, first, last } if first == last => match transport {
            Transport::Tcp => (protocol::TCP, slot::TCP, first),
            Transport::Udp => (protocol::UDP, slot::UDP, first),
            Transport::Sctp => (protocol::SCTP, slot::SCTP, first),
            Transport::UdpLite => (protocol::UDPLITE, slot::UDPLITE, first),
        },
        PortMatch::Icmp { kind: Some(kind), code } => (protocol::ICMP, slot::ICMP, icmp(kind, code)),
        PortMatch::Icmpv6 { kind: Some(kind), code } => (protocol::ICMPV6, slot::ICMPV6, icmp(kind, code)),
        PortMatch::Protocol(number) => (number, slot::PORTLESS, u16::from(number)),
        _ => return Err(NoAnswer::Port(port)),
    };
    Ok((protocol, slot << 16 | u32::from(selector)))
}

fn words6(address: Ipv6Addr) -> Words6 {
    let bits = u128::from(address);
    [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
}

#[cfg(test)]
mod tests;
