//! Why a packet would be allowed or denied: the kernel's own code, run on the compiled image.

use std::net::{IpAddr, Ipv6Addr};

use enforcer_ebpf::{
    abi::{NET_BLOCKS, Verdict, Words6, pseudo, slot},
    address::Address,
    headers::protocol,
    parse::{Fragment, Packet, Sink as _},
    verdict::{Judge, Origin},
};
use serde::Serialize;

use crate::{
    compile::Image,
    net::{
        Facts, NetImage,
        image::{Roles, Words},
    },
    policy::{Action, Policy, PortMatch, Transport, words},
};

/// A packet that one asks about.
#[derive(Clone, Copy, Debug)]
pub struct Question {
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
    /// `allow`, `drop` or `reject`.
    pub action: &'static str,
    /// The rule that decided, by name or line; nothing if it is the default.
    pub rule: Option<String>,
    /// The service through which it did.
    pub service: Option<String>,
    /// The destination prefix of the service that covers the address.
    pub prefix: Option<String>,
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

/// The verdict on a client's packet. Multicast, broadcast and link-local destinations are exempt before any rule, as everywhere; the addresses of a
/// gateway and its LANs, which are exempt as well, are not known here.
///
/// # Errors
/// If the question is not about one possible packet.
pub fn explain(policy: &Policy, image: &Image, question: &Question) -> Result<Explanation, NoAnswer> {
    let verdict = judge(image, question)?;
    let action = words::name(verdict.action());
    let Some(counted) = verdict.counter().checked_sub(pseudo::COUNT) else {
        let why = match verdict.counter() {
            pseudo::LOCAL => "multicast, broadcast and link-local destinations are exempt from the rules".into(),
            pseudo::DEFAULT => format!("no rule names this destination, port and source; the default is {action}"),
            _ => return Err(NoAnswer::Fault),
        };
        return Ok(Explanation { action, rule: None, service: None, prefix: None, why });
    };
    let (_, counted) = image.counters.get(counted as usize).ok_or(NoAnswer::Fault)?;
    let rule = policy.lan.rules.get(counted.rule.0 as usize).ok_or(NoAnswer::Fault)?;
    let service = counted.service.map(|service| &policy.services[service.0 as usize]);
    let covering = service.and_then(|service| {
        service.to.iter().filter(|net| net.contains(&question.to)).max_by_key(|net| net.prefix_len())
    });
    let verb = match rule.action {
        Action::Allow => "allows",
        Action::Drop => "drops",
        Action::Reject => "rejects",
        Action::Monitor => "monitors",
    };
    let why = match (service, covering) {
        (Some(service), Some(net)) => {
            format!(
                "rule {} (line {}) {verb} service {}, whose {net} covers {}",
                rule.label(),
                rule.line,
                service.name,
                question.to
            )
        }
        _ => format!("rule {} (line {}) {verb} every destination and port", rule.label(), rule.line),
    };
    Ok(Explanation {
        action,
        rule: Some(rule.label()),
        service: service.map(|service| service.name.clone()),
        prefix: covering.map(ToString::to_string),
        why,
    })
}

fn judge(image: &Image, question: &Question) -> Result<Verdict, NoAnswer> {
    match (question.port, question.to) {
        (port @ PortMatch::Icmp { .. }, to @ IpAddr::V6(_)) | (port @ PortMatch::Icmpv6 { .. }, to @ IpAddr::V4(_)) => {
            return Err(NoAnswer::Icmp(port, to));
        }
        _ => {}
    }
    match (question.from, question.to) {
        (None, IpAddr::V4(to)) => ask(image, 0, u32::from(to), question.port),
        (None, IpAddr::V6(to)) => ask(image, [0; 4], words6(to), question.port),
        (Some(IpAddr::V4(from)), IpAddr::V4(to)) => ask(image, from.into(), u32::from(to), question.port),
        (Some(IpAddr::V6(from)), IpAddr::V6(to)) => ask(image, words6(from), words6(to), question.port),
        (Some(from), to) => Err(NoAnswer::Families(from, to)),
    }
}

/// Judges the packet on a gateway without interfaces, where every source is believed.
fn ask<A: Address>(image: &Image, source: A, destination: A, port: PortMatch) -> Result<Verdict, NoAnswer> {
    let words = Words { strict_sources: false, ..image.words };
    let nowhere = NetImage::new(&Facts::default(), &Roles::default(), words).map_err(|_| NoAnswer::Fault)?;
    let net = nowhere.at(0, NET_BLOCKS).map_err(|_| NoAnswer::Fault)?;
    let (protocol, port) = port_cell(port)?;
    let (source_port, destination_port, fragment) = (0, port as u16, Fragment::NONE);
    // The first packet of a connection.
    let (tcp_flags, stands) = (0, 0);
    let packet =
        Packet { source, destination, protocol, port, source_port, destination_port, tcp_flags, stands, fragment };
    Ok(Judge { maps: image, net: &net, origin: Origin::Lan(0) }.ip(&packet))
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
mod tests {
    use super::*;
    use crate::{
        catalog::Catalogs,
        compile::{Limits, compile},
    };

    const POLICY: &str = r#"
        default = "drop"
        [[service]]
        name = "push"
        to = ["17.0.0.0/8", "2620:149::/32", "17.5.5.5"]
        ports = ["tcp/5223"]
        [[rule]]
        name = "guests"
        action = "reject"
        from = ["10.9.0.0/16"]
        [[rule]]
        action = "allow"
        services = ["push"]
    "#;

    fn ask(from: Option<&str>, to: &str, port: &str) -> Result<Explanation, NoAnswer> {
        let policy = Policy::parse("p", POLICY, &Catalogs::default()).expect("valid");
        let image = compile(&policy, &Limits::default(), 1).expect("small");
        let question = Question {
            from: from.map(|from| from.parse().expect("an address")),
            to: to.parse().expect("an address"),
            port: words::port(port).expect("a port"),
        };
        explain(&policy, &image, &question)
    }

    #[test]
    fn what_never_leaves_the_network_is_exempt() {
        for to in ["224.0.0.251", "255.255.255.255", "ff02::1", "fe80::1"] {
            let answer = ask(None, to, "udp/5353").expect("an answer");
            assert_eq!((answer.action, answer.rule), ("allow", None), "{to}");
            assert!(answer.why.contains("exempt"), "{}", answer.why);
        }
    }

    #[test]
    fn the_rule_service_and_longest_prefix_behind_a_verdict_are_named() {
        let allowed = ask(None, "17.5.5.5", "tcp/5223").expect("an answer");
        assert_eq!((allowed.action, allowed.prefix.as_deref()), ("allow", Some("17.5.5.5/32")));
        assert_eq!(allowed.why, "rule line-11 (line 11) allows service push, whose 17.5.5.5/32 covers 17.5.5.5");
        let rejected = ask(Some("10.9.1.1"), "17.5.5.5", "tcp/5223").expect("an answer");
        assert_eq!((rejected.action, rejected.rule.as_deref()), ("reject", Some("guests")));
        let dropped = ask(None, "2620:149::1", "tcp/443").expect("an answer");
        assert_eq!((dropped.action, dropped.rule), ("drop", None));
    }

    #[test]
    fn a_question_about_more_than_one_packet_is_refused() {
        assert!(matches!(ask(None, "17.5.5.5", "tcp"), Err(NoAnswer::Port(_))));
        assert!(matches!(ask(Some("::1"), "17.5.5.5", "tcp/1"), Err(NoAnswer::Families(..))));
    }
}
