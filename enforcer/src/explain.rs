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

/// Judges the packet on a gateway without interfaces, where every source is believed.
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
    Ok(Judge { maps: image, net: &net, origin, admitted: question.admitted == Admitted::Yes }.ip(&packet))
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
        moments::Moments,
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
            router: false,
            admitted: Admitted::No,
            from: from.map(|from| from.parse().expect("an address")),
            to: to.parse().expect("an address"),
            port: words::port(port).expect("a port"),
        };
        explain(&policy, &image, &question, &[])
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
    fn the_name_behind_a_verdict_is_named() {
        let text = r#"
            default = "drop"
            [[service]]
            name = "web"
            to = ["*.push.example.org", "www.example.org", "203.0.113.0/24"]
            ports = ["tcp/443"]
            [[rule]]
            action = "allow"
            services = ["web"]
        "#;
        let policy = Policy::parse("p", text, &Catalogs::default()).expect("valid");
        let said = |names: &[&str], to: &str, port: &str| {
            let mut image = compile(&policy, &Limits::default(), 1).expect("small");
            let names: Vec<Name> = names.iter().map(|name| name.parse().expect("a name")).collect();
            let (to, port) = (to.parse().expect("an address"), words::port(port).expect("a port"));
            know(&policy, &mut image, to, &names).expect("room");
            let question = Question { router: false, admitted: Admitted::No, from: None, to, port };
            let answer = explain(&policy, &image, &question, &names).expect("an answer");
            (answer.name.unwrap_or_default(), answer.why)
        };
        let rule = "rule line-7 (line 7) allows service web";
        let both = ["cdn.example.net", "1.push.example.org"];
        assert_eq!(
            said(&both, "198.51.100.7", "tcp/443"),
            ("1.push.example.org".into(), format!("{rule}, whose *.push.example.org covers 1.push.example.org"))
        );
        assert_eq!(
            said(&["www.example.org"], "2001:db8::7", "tcp/443"),
            ("www.example.org".into(), format!("{rule}, which has www.example.org"))
        );
        let covered = said(&["www.example.org"], "203.0.113.7", "tcp/443");
        assert_eq!(covered, (String::new(), format!("{rule}, whose 203.0.113.0/24 covers 203.0.113.7")));
        assert!(said(&["www.example.org"], "198.51.100.7", "tcp/80").1.contains("the default is drop"));
        assert!(said(&["cdn.example.net"], "198.51.100.7", "tcp/443").1.contains("the default is drop"));
    }

    #[test]
    fn a_question_about_more_than_one_packet_is_refused() {
        assert!(matches!(ask(None, "17.5.5.5", "tcp"), Err(NoAnswer::Port(_))));
        assert!(matches!(ask(Some("::1"), "17.5.5.5", "tcp/1"), Err(NoAnswer::Families(..))));
    }

    /// What is said of a packet under further words of a policy.
    fn said(more: &str, router: bool, to: &str, moment: usize) -> String {
        let policy = Policy::parse("p", &format!("{more}{POLICY}"), &Catalogs::default()).expect("valid");
        let mut image = compile(&policy, &Limits::default(), 1).expect("small");
        image.set_moment(moment);
        let to = to.parse().expect("an address");
        let port = words::port("tcp/5223").expect("a port");
        let answer = explain(&policy, &image, &Question { router, admitted: Admitted::No, from: None, to, port }, &[])
            .expect("an answer");
        format!("{} {}: {}", answer.action, answer.passes, answer.why)
    }

    #[test]
    fn monitoring_schedules_translation_and_the_gateways_own_policy_are_told() {
        assert_eq!(
            said("monitor = true\n", false, "203.0.113.1", 0),
            "monitor true: no rule names this destination, port and source; the default is monitor"
        );
        assert_eq!(
            said("nat64 = [\"64:ff9b::/96\"]\n", false, "64:ff9b::17.5.5.5", 0),
            "allow true: rule line-12 (line 12) allows service push, whose 17.5.5.5/32 covers 64:ff9b::1105:505"
        );
        let router = "[router]\ndefault = \"reject\"\n[[router.rule]]\naction = \"drop\"\nmonitor = true\n";
        let policy = Policy::parse("p", &format!("{POLICY}{router}"), &Catalogs::default()).expect("valid");
        let image = compile(&policy, &Limits::default(), 1).expect("small");
        let port = words::port("tcp/5223").expect("a port");
        let to = "203.0.113.1".parse().expect("an address");
        let answer =
            explain(&policy, &image, &Question { router: true, admitted: Admitted::No, from: None, to, port }, &[])
                .expect("an answer");
        assert_eq!(answer.why, "rule line-16 (line 16) would drop, but only monitors, every destination and port");
        assert!(answer.passes && answer.action == "monitor");
    }

    #[test]
    fn whether_a_client_is_admitted_decides_and_is_told() {
        let said = |from: &str, admitted, to: &str| {
            let text = POLICY.replace("[[rule]]\n        name = \"guests\"", "[portal]\n        from = [\"10.1.0.0/16\"]\n        services = [\"login\"]\n        [[service]]\n        name = \"login\"\n        to = [\"203.0.113.9\"]\n        [[rule]]\n        name = \"guests\"");
            let policy = Policy::parse("p", &text, &Catalogs::default()).expect("valid");
            let image = compile(&policy, &Limits::default(), 1).expect("small");
            let (from, to) = (Some(from.parse().expect("an address")), to.parse().expect("an address"));
            let question =
                Question { router: false, admitted, from, to, port: words::port("tcp/5223").expect("a port") };
            explain(&policy, &image, &question, &[]).expect("an answer")
        };
        let kept = said("10.1.0.5", Admitted::No, "17.1.2.3");
        assert_eq!((kept.action, kept.passes, kept.rule.clone()), ("reject", false, None));
        assert!(kept.why.contains("the client is not admitted (see `enforcer admit`)"), "{}", kept.why);
        let doubted = [Admitted::NotByAddress, Admitted::Untold].map(|doubt| said("10.1.0.5", doubt, "17.1.2.3").why);
        assert!(doubted[0].contains("may be by its MAC") && doubted[1].contains("is not known here"), "{doubted:?}");
        assert!(said("10.1.0.5", Admitted::Yes, "17.1.2.3").why.contains("allows service push"));
        assert!(said("10.2.0.5", Admitted::No, "17.1.2.3").why.contains("allows service push"));
        assert!(said("10.1.0.5", Admitted::No, "203.0.113.9").why.starts_with("rule portal (line"));
        assert!(said("10.1.0.5", Admitted::Yes, "203.0.113.9").why.starts_with("rule portal (line"));
        assert!(said("10.1.0.5", Admitted::Yes, "198.51.100.1").why.contains("the default is drop"));
    }

    #[test]
    fn a_rule_with_a_schedule_decides_at_its_time_alone() {
        let text = "default = \"drop\"\n[[schedule]]\nname = \"lessons\"\nzone = \"UTC\"\ntimes = [\"mon\"]\n[[rule]]\naction = \"allow\"\nwhen = \"lessons\"\n";
        let policy = Policy::parse("p", text, &Catalogs::default()).expect("valid");
        let mut image = compile(&policy, &Limits::default(), 1).expect("small");
        let moments = Moments::of(&policy).expect("two");
        let mut ask = |time: &str| {
            image.set_moment(moments.at(time.parse().expect("a time")));
            let question = Question {
                router: false,
                admitted: Admitted::No,
                from: None,
                to: "17.1.2.3".parse().expect("an address"),
                port: words::port("tcp/443").expect("a port"),
            };
            explain(&policy, &image, &question, &[]).expect("an answer").why
        };
        assert_eq!(
            ask("2026-11-23T12:00:00Z"),
            "rule line-6 (line 6) allows every destination and port, while lessons"
        );
        assert!(ask("2026-11-24T12:00:00Z").contains("the default is drop"));
    }
}
