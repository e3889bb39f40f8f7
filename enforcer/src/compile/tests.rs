//! The compiled tables against a linear scan of the rules.

use enforcer_ebpf::abi::slot;
use proptest::prelude::*;

use super::*;
use crate::policy::{PortMatch, Rule, Service, ServiceId, Transport};

/// A prefix of few bits.
pub(crate) fn net(v6: bool, bits: u32, length: u8) -> IpNet {
    if v6 {
        // A few bits at stride boundaries, so that prefixes nest.
        let address = (0..16).fold(0_u128, |address, bit| address | u128::from(bits >> bit & 1) << (127 - bit * 8));
        ipnet::Ipv6Net::new_assert(address.into(), length).trunc().into()
    } else {
        let address = (0..16).fold(0_u32, |address, bit| address | (bits >> bit & 1) << (31 - bit * 2));
        ipnet::Ipv4Net::new_assert(address.into(), length.min(32)).trunc().into()
    }
}

fn nets() -> impl Strategy<Value = Vec<IpNet>> {
    let one = (any::<bool>(), any::<u16>(), 0..=128_u8, any::<bool>());
    prop::collection::vec(one, 1..6).prop_map(|all| {
        all.into_iter()
            .map(|(v6, bits, length, host)| {
                net(
                    v6,
                    bits.into(),
                    if host {
                        128
                    } else if v6 {
                        length
                    } else {
                        length / 4
                    },
                )
            })
            .collect()
    })
}

fn port() -> impl Strategy<Value = PortMatch> {
    let ports = (0..3_u8, 0..20_u16, 0..20_u16).prop_map(|(transport, first, more)| PortMatch::Ports {
        transport: [Transport::Tcp, Transport::Udp, Transport::Sctp, Transport::UdpLite][usize::from(transport)],
        first,
        last: first + more,
    });
    prop_oneof![
        6 => ports,
        1 => Just(PortMatch::Any),
        1 => (prop::option::of(0..3_u8)).prop_map(|kind| PortMatch::Icmp { kind, code: None }),
        1 => (0..3_u8).prop_map(|kind| PortMatch::Icmpv6 { kind: Some(kind), code: Some(0) }),
        1 => (47..50_u8).prop_map(PortMatch::Protocol),
    ]
}

/// Small policies whose rules overlap.
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let service = (nets(), prop::collection::vec(port(), 1..4));
    let rule = (
        0..3_u8,
        prop::option::weighted(0.9, prop::collection::vec(any::<prop::sample::Index>(), 1..4)),
        prop::option::of(nets()),
    );
    (prop::collection::vec(service, 1..6), prop::collection::vec(rule, 0..12)).prop_map(|(services, rules)| {
        let services: Vec<Service> = services
            .into_iter()
            .enumerate()
            .map(|(index, (to, ports))| Service { name: format!("s{index}"), to, ports })
            .collect();
        let rules = rules
            .into_iter()
            .map(|(action, named, from)| Rule {
                services: named
                    .map(|all| all.iter().map(|index| ServiceId(index.index(services.len()) as u32)).collect()),
                from,
                ..Rule::new([Action::Allow, Action::Drop, Action::Reject][usize::from(action)])
            })
            .collect();
        Policy { lan: Rules { default: Action::Drop, rules }, services, ..Policy::default() }
    })
}

/// A packet as rules see it; IPv4 in the last word.
#[derive(Clone, Debug)]
struct Packet {
    v6: bool,
    source: Words6,
    destination: Words6,
    slot: u32,
    selector: u16,
}

fn packet() -> impl Strategy<Value = Packet> {
    (any::<bool>(), any::<u16>(), any::<u16>(), any::<[bool; 2]>(), 0..6_u32, 0..50_u16).prop_map(
        |(v6, source, destination, low, slot, selector)| {
            let words = |bits: u16, low: bool| match net(v6, bits.into(), 128).network() {
                std::net::IpAddr::V4(address) => [0, 0, 0, u32::from(address) ^ u32::from(low)],
                std::net::IpAddr::V6(address) => words6(u128::from(address) ^ u128::from(low)),
            };
            let selector = if matches!(slot, slot::ICMP | slot::ICMPV6) { (selector & 3) << 8 } else { selector };
            Packet { v6, source: words(source, low[0]), destination: words(destination, low[1]), slot, selector }
        },
    )
}

/// Rules as they read, without any of the compiler's parts.
fn scan(policy: &Policy, packet: &Packet) -> (Action, u32) {
    let address = |words: [u32; 4]| -> std::net::IpAddr {
        if packet.v6 {
            let joined = words.iter().fold(0_u128, |joined, &word| joined << 32 | u128::from(word));
            std::net::Ipv6Addr::from(joined).into()
        } else {
            std::net::Ipv4Addr::from(words[3]).into()
        }
    };
    let in_any = |nets: &[IpNet], words| nets.iter().any(|net| net.contains(&address(words)));
    let takes = |port: &PortMatch| match *port {
        PortMatch::Any => true,
        PortMatch::Ports { transport, first, last } => {
            let slot = [slot::TCP, slot::UDP, slot::SCTP][transport as usize];
            packet.slot == slot && (first..=last).contains(&packet.selector)
        }
        PortMatch::Icmp { kind, code } | PortMatch::Icmpv6 { kind, code } => {
            let slot = if matches!(port, PortMatch::Icmp { .. }) { slot::ICMP } else { slot::ICMPV6 };
            packet.slot == slot
                && kind.is_none_or(|kind| packet.selector >> 8 == u16::from(kind))
                && code.is_none_or(|code| packet.selector & 0xff == u16::from(code))
        }
        PortMatch::Protocol(number) => packet.slot == slot::PORTLESS && packet.selector == u16::from(number),
    };
    let mut counter = pseudo::COUNT;
    for rule in &policy.lan.rules {
        let from = rule.from.as_ref().is_none_or(|from| in_any(from, packet.source));
        let Some(services) = &rule.services else {
            if from {
                return (rule.action, counter);
            }
            counter += 1;
            continue;
        };
        for service in services {
            let service = &policy.services[service.0 as usize];
            if from && in_any(&service.to, packet.destination) && service.ports.iter().any(takes) {
                return (rule.action, counter);
            }
            counter += 1;
        }
    }
    (policy.lan.default, pseudo::DEFAULT)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn compiled_tables_say_what_a_scan_of_the_rules_says(
        policy in policy(), packets in prop::collection::vec(packet(), 100), seed in any::<u32>(),
    ) {
        let image = compile(&policy, &Limits::default(), seed).expect("a small policy");
        for packet in &packets {
            let (from, to, port) = (&packet.source, &packet.destination, packet.slot << 16 | u32::from(packet.selector));
            let verdict = if packet.v6 {
                classify::judge6(&image, PolicyId::Lan, from, to, port)
            } else {
                classify::judge4(&image, PolicyId::Lan, from[3], to[3], port)
            };
            let verdict = verdict.expect("complete tables");
            prop_assert_eq!((verdict.action(), verdict.counter()), scan(&policy, packet), "{:?}", packet);
        }
    }
}

#[test]
fn a_policy_beyond_a_limit_is_refused_with_the_numbers() {
    let host = |n: u32| IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0x1100_0000 + n)));
    let services = vec![Service { name: "many".into(), to: (0..100).map(host).collect(), ports: vec![PortMatch::Any] }];
    let rule = Rule { services: Some(vec![ServiceId(0)]), ..Rule::new(Action::Allow) };
    let policy = Policy { lan: Rules { default: Action::Drop, rules: vec![rule] }, services, ..Policy::default() };
    let Err(error) = compile(&policy, &Limits { hosts: 99, ..Limits::default() }, 1) else {
        panic!("a hundred hosts fit where ninety-nine are allowed");
    };
    assert!(error.to_string().contains("100 host addresses, more than the limit of 99"), "{error}");
    assert!(compile(&policy, &Limits { hosts: 100, ..Limits::default() }, 1).is_ok());
}
