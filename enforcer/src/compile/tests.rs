//! The compiled tables against a linear scan of the rules.

use std::{num::NonZeroU32, ops::Range};

use enforcer_ebpf::abi::{ADMITTED, STANDS, slot};
use ipnet::{IpNet, Ipv6Net};
use proptest::prelude::*;

use super::*;
use crate::policy::{Action, Gate, Log, PortMatch, Rule, Rules, Schedule, Service, ServiceId, Transport, model::WEEK};

/// A prefix of few bits.
pub(crate) fn net(v6: bool, bits: u32, length: u8) -> IpNet {
    if v6 {
        // A few bits at stride boundaries, so that prefixes nest.
        let address = (0..16).fold(0_u128, |address, bit| address | u128::from(bits >> bit & 1) << (127 - bit * 8));
        Ipv6Net::new_assert(address.into(), length).trunc().into()
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
    let ports = (0..4_u8, 0..20_u16, 0..20_u16).prop_map(|(transport, first, more)| PortMatch::Ports {
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

fn one_in(count: u32) -> Log {
    NonZeroU32::new(count).map_or(Log::Never, Log::OneIn)
}

/// Small policies whose rules overlap.
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let names = prop::collection::btree_set(
        "(\\*\\.)?[ab]\\.(x\\.)?example".prop_map(|name| name.parse().expect("a name")),
        0..3,
    );
    let service = (nets(), names, prop::collection::vec(port(), 1..4));
    let rule = (
        0..3_u8,
        prop::option::weighted(0.9, prop::collection::vec(any::<prop::sample::Index>(), 1..4)),
        prop::option::of(nets()),
        prop::option::weighted(0.3, 0..3_u32),
        (any::<bool>(), prop_oneof![3 => Just(Log::Denied), 1 => Just(Log::Never), 1 => (1..4_u32).prop_map(one_in)]),
    );
    let schedule = |name: &str, zone: &str, times: &[Range<u16>]| Schedule {
        name: name.into(),
        zone: zone.into(),
        times: times.to_vec(),
    };
    let schedules = vec![
        schedule("morning", "Europe/Berlin", &[480..720, 1920..2160]),
        schedule("day", "Europe/Berlin", &[540..960, 1980..2400]),
        schedule("night", "America/New_York", &[0..360, 9000..WEEK]),
    ];
    let nat64 = prop::option::of(Just(NAT64.parse().expect("a prefix"))).prop_map(Vec::from_iter);
    let parts = (prop::collection::vec(service, 1..6), prop::collection::vec(rule, 0..12), nat64, any::<bool>());
    parts.prop_map(move |(services, rules, nat64, monitor)| {
        let services: Vec<Service> = services
            .into_iter()
            .enumerate()
            .map(|(index, (to, names, ports))| Service {
                name: format!("s{index}"),
                to,
                names: names.into_iter().collect(),
                ports,
            })
            .collect();
        let rules = rules
            .into_iter()
            .map(|(action, named, from, when, (monitor, log))| Rule {
                services: named
                    .map(|all| all.iter().map(|index| ServiceId(index.index(services.len()) as u32)).collect()),
                from,
                when: when.map(ScheduleId),
                monitor,
                log,
                ..Rule::new([Action::Allow, Action::Drop, Action::Reject][usize::from(action)])
            })
            .collect();
        let (lan, schedules) = (Rules { default: Action::Drop, rules }, schedules.clone());
        Policy { lan, services, schedules, nat64, monitor, ..Policy::default() }
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
    (any::<bool>(), any::<u16>(), any::<u16>(), any::<[bool; 3]>(), 0..7_u32, 0..50_u16).prop_map(
        |(v6, source, destination, low, slot, selector)| {
            let words = |bits: u16, low: bool| match net(v6, bits.into(), 128).network() {
                std::net::IpAddr::V4(address) => [0, 0, 0, u32::from(address) ^ u32::from(low)],
                std::net::IpAddr::V6(address) => words6(u128::from(address) ^ u128::from(low)),
            };
            let selector = if matches!(slot, slot::ICMP | slot::ICMPV6) { (selector & 3) << 8 } else { selector };
            let mut destination = words(destination, low[1]);
            if v6 && low[2] {
                // By way of a NAT64, to an IPv4 address that services may name.
                let Ok(IpNet::V6(outer)) = NAT64.parse() else { unreachable!("written above") };
                let inner = net(false, destination[0], 32);
                let std::net::IpAddr::V4(inner) = inner.addr() else { unreachable!("asked for") };
                destination = words6(u128::from(outer.network()) | u128::from(u32::from(inner)));
            }
            Packet { v6, source: words(source, low[0]), destination, slot, selector }
        },
    )
}

const NAT64: &str = "64:ff9b::/96";

/// Rules as they read while some schedules apply, without any of the compiler's parts: action, counter and one in how many packets makes an event.
fn scan(policy: &Policy, packet: &Packet, active: &[ScheduleId]) -> (Action, u32, u32) {
    scan_with(policy, packet, active, &[])
}

/// The same where the destination is one of some services' names' addresses.
fn scan_with(policy: &Policy, packet: &Packet, active: &[ScheduleId], learned: &[ServiceId]) -> (Action, u32, u32) {
    let address = |words: [u32; 4]| -> std::net::IpAddr {
        if packet.v6 {
            let joined = words.iter().fold(0_u128, |joined, &word| joined << 32 | u128::from(word));
            std::net::Ipv6Addr::from(joined).into()
        } else {
            std::net::Ipv4Addr::from(words[3]).into()
        }
    };
    let in_any = |nets: &[IpNet], words| nets.iter().any(|net| net.contains(&address(words)));
    // Behind a NAT64, the IPv4 address decides.
    let to_any = |nets: &[IpNet], words: Words6| {
        if packet.v6 && policy.nat64.iter().any(|outer| IpNet::from(*outer).contains(&address(words))) {
            return nets.iter().any(|net| net.contains(&std::net::IpAddr::from(std::net::Ipv4Addr::from(words[3]))));
        }
        in_any(nets, words)
    };
    let takes = |port: &PortMatch| match *port {
        PortMatch::Any => true,
        PortMatch::Ports { transport, first, last } => {
            let slot = [slot::TCP, slot::UDP, slot::SCTP, slot::UDPLITE][transport as usize];
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
    let watched = |action, watches| if watches && action != Action::Allow { Action::Monitor } else { action };
    let fate = |rule: &Rule, counter| {
        let action = watched(rule.action, policy.monitor || rule.monitor);
        let one_in = match (rule.log, action) {
            (Log::Never, _) | (Log::Denied, Action::Allow) => 0,
            (Log::Denied, _) => 1,
            (Log::OneIn(count), _) => count.get(),
        };
        (action, counter, one_in)
    };
    let mut counter = pseudo::COUNT;
    for rule in &policy.lan.rules {
        // What the portal denies has one counter, which is not among the rules'.
        let own = u32::from(!rule.closes());
        let numbered = |counter| if rule.closes() { pseudo::UNADMITTED } else { counter };
        let applies = rule.when.is_none_or(|when| active.contains(&when));
        let from = applies && rule.from.as_ref().is_none_or(|from| in_any(from, packet.source));
        let Some(services) = &rule.services else {
            if from {
                return fate(rule, numbered(counter));
            }
            counter += own;
            continue;
        };
        for id in services {
            let service = &policy.services[id.0 as usize];
            let to = to_any(&service.to, packet.destination) || learned.contains(id);
            if from && to && service.ports.iter().any(takes) {
                return fate(rule, numbered(counter));
            }
            counter += own;
        }
    }
    (watched(policy.lan.default, policy.monitor), pseudo::DEFAULT, 1)
}

/// The policy with one of its rules about clients alone that are not admitted, and as it is for the others.
fn with_portal(mut policy: Policy, closing: Option<prop::sample::Index>) -> [Policy; 2] {
    if let Some(index) = closing.filter(|_| !policy.lan.rules.is_empty()) {
        let place = index.index(policy.lan.rules.len());
        let rule = &mut policy.lan.rules[place];
        (rule.gate, rule.when) = (Some(Gate::Closes), None);
    }
    let mut admitted = policy.clone();
    admitted.lan.rules.retain(|rule| !rule.closes());
    [policy, admitted]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn compiled_tables_say_what_a_scan_of_the_rules_says(
        policy in policy(), closing in prop::option::of(any::<prop::sample::Index>()),
        packets in prop::collection::vec(packet(), 100), seed in any::<u32>(),
    ) {
        let [policy, for_admitted] = with_portal(policy, closing);
        let mut image = compile(&policy, &Limits::default(), seed).expect("a small policy");
        let moments = Moments::of(&policy).expect("few");
        for (number, packet) in packets.iter().enumerate() {
            let moment = number % moments.sets().len();
            image.set_moment(moment);
            for (policy, flags) in [(&policy, 0), (&for_admitted, ADMITTED)] {
                let verdict = verdict(&image, packet, flags);
                let one_in = image.samplings[verdict.sampling() as usize];
                let scanned = scan(policy, packet, &moments.sets()[moment]);
                prop_assert_eq!((verdict.action(), verdict.counter(), one_in), scanned, "{:?}", packet);
            }
        }
    }
}

/// What happens to a learned address.
#[derive(Clone, Debug)]
enum Step {
    Set(Vec<prop::sample::Index>, bool),
    Remove,
}

fn steps() -> impl Strategy<Value = Vec<(prop::sample::Index, Step)>> {
    let set = (prop::collection::vec(any::<prop::sample::Index>(), 1..4), prop::bool::weighted(0.2));
    let step =
        prop_oneof![4 => set.prop_map(|(services, draining)| Step::Set(services, draining)), 1 => Just(Step::Remove)];
    prop::collection::vec((any::<prop::sample::Index>(), step), 1..60)
}

fn verdict(image: &Image, packet: &Packet, flags: u32) -> Verdict {
    let (from, to, port) =
        (&packet.source, &packet.destination, packet.slot << 16 | u32::from(packet.selector) | flags);
    let verdict = if packet.v6 {
        classify::judge6(image, PolicyId::Lan, from, to, port)
    } else {
        classify::judge4(image, PolicyId::Lan, from[3], to[3], port)
    };
    verdict.expect("complete tables")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_learned_address_is_judged_as_one_of_its_services(
        policy in policy(), packets in prop::collection::vec(packet(), 12), more in prop::collection::vec(packet(), 12),
        closing in prop::option::of(any::<prop::sample::Index>()), steps in steps(), seed in any::<u32>(),
    ) {
        let mut policy = policy;
        policy.services[0].names = vec!["a.example".parse().expect("a name")];
        if policy.lan.rules.iter().all(|rule| rule.services.as_ref().is_none_or(|ids| !ids.contains(&ServiceId(0)))) {
            policy.lan.rules.push(Rule { services: Some(vec![ServiceId(0)]), ..Rule::new(Action::Allow) });
        }
        let [policy, for_admitted] = with_portal(policy, closing);
        // Few buckets, so that some are full.
        let mut image = compile(&policy, &Limits { learned: 2, ..Limits::default() }, seed).expect("a small policy");
        let untouched = compile(&policy, &Limits { learned: 2, ..Limits::default() }, seed).expect("a small policy");
        let mut live = std::mem::take(&mut image.live);
        let mut addresses = Addresses::new(&policy.nat64);
        let address = |packet: &Packet| -> std::net::IpAddr {
            let bits = packet.destination.iter().fold(0_u128, |joined, &word| joined << 32 | u128::from(word));
            if packet.v6 { std::net::Ipv6Addr::from(bits).into() } else { std::net::Ipv4Addr::from(bits as u32).into() }
        };
        let inner = |address| match address {
            std::net::IpAddr::V6(v6) if policy.nat64.iter().any(|net| net.contains(&v6)) => {
                std::net::Ipv4Addr::from(v6.to_bits() as u32).into()
            }
            other => other,
        };
        // No answer opens these (`dns::address`).
        let fits = |address| !matches!(address, std::net::IpAddr::V4(v4) if v4.is_unspecified() || v4.is_broadcast());
        let hosts: Vec<_> = packets.iter().map(|packet| inner(address(packet))).filter(|&address| fits(address)).collect();
        prop_assume!(!hosts.is_empty());
        let mut state: std::collections::HashMap<std::net::IpAddr, (Vec<ServiceId>, bool)> = std::collections::HashMap::new();
        for (index, step) in steps {
            let host = *index.get(&hosts);
            match step {
                Step::Set(services, draining) => {
                    let services: Vec<_> = services.iter().map(|i| ServiceId(i.index(policy.services.len()) as u32)).collect();
                    // Where many sources and schedules meet, room ends; what was stored until then does no harm.
                    if addresses.set(&mut image, &mut live, host, &services, draining, 7).is_ok() {
                        state.insert(host, (services, draining));
                    } else {
                        addresses.remove(&mut image, host);
                        state.remove(&host);
                    }
                }
                Step::Remove => {
                    addresses.remove(&mut image, host);
                    state.remove(&host);
                }
            }
        }
        let moments = Moments::of(&policy).expect("few");
        for (number, packet) in packets.iter().chain(&more).enumerate() {
            let moment = number % moments.sets().len();
            image.set_moment(moment);
            let is_host = addresses::is_host(&untouched, PolicyId::Lan, address(packet));
            for flags in [0, STANDS, ADMITTED, STANDS | ADMITTED] {
                let learned = match state.get(&inner(address(packet))) {
                    // A draining address is one of its services for what stands alone; a host of the policy's own is none at all.
                    Some((services, draining)) if !draining || flags & STANDS != 0 && !is_host => &services[..],
                    _ => &[],
                };
                let verdict = verdict(&image, packet, flags);
                let one_in = image.samplings[verdict.sampling() as usize];
                let policy = if flags & ADMITTED == 0 { &policy } else { &for_admitted };
                let scanned = scan_with(policy, packet, &moments.sets()[moment], learned);
                prop_assert_eq!((verdict.action(), verdict.counter(), one_in), scanned, "{:?} {:?}", packet, learned);
            }
        }
    }
}

#[test]
fn a_learned_address_that_changes_keeps_its_epoch() {
    let service = |name: &str| Service {
        name: name.into(),
        to: Vec::new(),
        names: vec![name.parse().expect("a name")],
        ports: vec![PortMatch::Any],
    };
    let services = vec![service("a.example"), service("b.example")];
    let rule = Rule { services: Some(vec![ServiceId(0), ServiceId(1)]), ..Rule::new(Action::Allow) };
    let policy = Policy { lan: Rules { default: Action::Drop, rules: vec![rule] }, services, ..Policy::default() };
    for address in ["203.0.113.1", "2001:db8::1"] {
        let address = address.parse().expect("an address");
        let mut image = compile(&policy, &Limits { learned: 16, ..Limits::default() }, 1).expect("a small policy");
        let mut live = std::mem::take(&mut image.live);
        let mut addresses = Addresses::new(&[]);
        // The second time with a service more, the third time draining: the address was not used in between.
        for (services, draining, epoch) in [(&[0][..], false, 7), (&[0, 1], false, 8), (&[0, 1], true, 9)] {
            let services: Vec<ServiceId> = services.iter().copied().map(ServiceId).collect();
            let set = addresses.set(&mut image, &mut live, address, &services, draining, epoch);
            assert!(set.is_ok());
            assert_eq!(addresses.epochs(&image, address), [Some(7)], "{address} at epoch {epoch}");
        }
    }
}

#[test]
fn a_policy_beyond_a_limit_is_refused_with_the_numbers() {
    let host = |n: u32| IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0x1100_0000 + n)));
    let to = (0..100).map(host).collect();
    let services = vec![Service { name: "many".into(), to, names: Vec::new(), ports: vec![PortMatch::Any] }];
    let rule = Rule { services: Some(vec![ServiceId(0)]), ..Rule::new(Action::Allow) };
    let policy = Policy { lan: Rules { default: Action::Drop, rules: vec![rule] }, services, ..Policy::default() };
    let Err(error) = compile(&policy, &Limits { hosts: 99, ..Limits::default() }, 1) else {
        panic!("a hundred hosts fit where ninety-nine are allowed");
    };
    assert!(error.to_string().contains("100 host addresses, more than the limit of 99"), "{error}");
    assert!(compile(&policy, &Limits { hosts: 100, ..Limits::default() }, 1).is_ok());
}

#[test]
fn too_many_combinations_of_schedules_or_sampling_rates_are_refused() {
    // A schedule in each of eleven zones: two to the eleventh moments.
    let zones =
        ["Africa/Cairo", "America/Lima", "Asia/Tokyo", "Asia/Seoul", "Asia/Dubai", "Europe/Rome", "Europe/Kyiv"];
    let zones = zones.into_iter().chain(["Europe/Oslo", "Europe/Paris", "Europe/Berlin", "UTC"]);
    let schedules: Vec<Schedule> =
        zones.map(|zone| Schedule { name: zone.into(), zone: zone.into(), times: vec![0..60, 120..180] }).collect();
    let rule = |when| Rule { when: Some(ScheduleId(when)), ..Rule::new(Action::Allow) };
    let lan = Rules { default: Action::Drop, rules: (0..11).map(rule).collect() };
    let refused = compile(&Policy { lan, schedules, ..Policy::default() }, &Limits::default(), 1).err();
    assert_eq!(
        refused.expect("too many").to_string(),
        "the policy needs 2048 combinations of schedules, more than the limit of 1024: use fewer schedules, or fewer time zones"
    );
    let rule = |rate| Rule { log: one_in(rate), ..Rule::new(Action::Allow) };
    let rates = |count| {
        let lan = Rules { default: Action::Drop, rules: (2..2 + count).map(rule).collect() };
        compile(&Policy { lan, ..Policy::default() }, &Limits::default(), 1).err()
    };
    assert_eq!(rates(Verdict::SAMPLINGS - 2), None);
    let refused = rates(Verdict::SAMPLINGS - 1).expect("too many").to_string();
    assert!(refused.contains("needs 64 sampling rates, more than the limit of 63"), "{refused}");
}
