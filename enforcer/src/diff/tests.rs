//! Diffs against a scan of both policies' rules, and as they print.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::{
    catalog::Catalogs,
    compile::tests::{net, policy},
    policy::{Action, PortMatch, Rule, Schedule, ScheduleId, words as policy_words},
};

/// A packet as rules see it, and when it comes, by the clocks of two zones.
#[derive(Clone, Debug)]
struct Packet {
    from: IpAddr,
    to: IpAddr,
    protocol: &'static str,
    /// Port, ICMP type or protocol number.
    selector: u16,
    minutes: [u16; 2],
}

const ZONES: [&str; 2] = ["Europe/Berlin", "America/New_York"];

fn packet() -> impl Strategy<Value = Packet> {
    (any::<bool>(), any::<[u16; 2]>(), any::<[bool; 3]>(), 0..6_usize, 0..50_u16, [0..10_080_u16, 0..10_080_u16])
        .prop_map(|(v6, bits, low, protocol, selector, minutes)| {
            let [from, mut to] = [0, 1].map(|end: usize| match net(v6, bits[end].into(), 128).network() {
                IpAddr::V4(address) => IpAddr::V4((u32::from(address) ^ u32::from(low[end])).into()),
                IpAddr::V6(address) => IpAddr::V6((u128::from(address) ^ u128::from(low[end])).into()),
            });
            if v6
                && low[2]
                && let IpAddr::V4(inner) = net(false, bits[1].into(), 128).network()
            {
                // By way of a NAT64.
                to = IpAddr::V6((0x64_ff9b << 96 | u128::from(u32::from(inner))).into());
            }
            let icmp = if v6 { "icmpv6" } else { "icmp" };
            let protocol = ["tcp", "udp", "sctp", "udplite", icmp, "proto"][protocol];
            let selector = if protocol == icmp { selector % 4 } else { selector };
            // No packet of its own has the number of TCP, UDP or ICMP.
            let selector = if protocol == "proto" { 47 + selector % 5 } else { selector };
            Packet { from, to, protocol, selector, minutes }
        })
}

fn schedules() -> impl Strategy<Value = Vec<Schedule>> {
    let schedule = (0..2_usize, prop::collection::vec((0..14_u16, 1..6_u16), 1..4)).prop_map(|(zone, halves)| {
        let mut hours = [false; 14];
        halves.iter().for_each(|&(first, more)| hours[first.into()..14.min(usize::from(first + more))].fill(true));
        let runs = (0..14_usize).filter(|&half| hours[half]);
        let mut times: Vec<std::ops::Range<u16>> = Vec::new();
        for half in runs {
            let (start, end) = (half as u16 * 720, (half as u16 + 1) * 720);
            match times.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => times.push(start..end),
            }
        }
        Schedule { name: String::new(), zone: ZONES[zone].into(), times }
    });
    prop::collection::vec(schedule, 1..4)
}

/// A policy with schedules and monitoring.
fn timed() -> impl Strategy<Value = Policy> {
    let extra = prop::collection::vec((prop::option::of(any::<prop::sample::Index>()), any::<bool>()), 12);
    (policy(), schedules(), extra, prop::bool::weighted(0.1)).prop_map(|(mut policy, schedules, extra, monitor)| {
        for (rule, (when, monitor)) in policy.lan.rules.iter_mut().zip(extra) {
            rule.when = when.map(|when| ScheduleId(when.index(schedules.len()) as u32));
            rule.monitor = monitor;
        }
        Policy { schedules, monitor, ..policy }
    })
}

/// Two policies: unrelated, or the same but for a rule that is gone and two that have changed places.
fn pair() -> impl Strategy<Value = [Policy; 2]> {
    let edited = (timed(), any::<[prop::sample::Index; 3]>()).prop_map(|(old, at)| {
        let mut new = old.clone();
        let rules = &mut new.lan.rules;
        if !rules.is_empty() {
            let [a, b] = [at[0].index(rules.len()), at[1].index(rules.len())];
            rules.swap(a, b);
            rules.remove(at[2].index(rules.len()));
        }
        [old, new]
    });
    prop_oneof![edited, [timed(), timed()]]
}

/// Rules as they read.
fn scan(policy: &Policy, packet: &Packet) -> (Action, Option<String>) {
    let takes = |port: &PortMatch| match *port {
        PortMatch::Any => true,
        PortMatch::Ports { transport, first, last } => {
            packet.protocol == transport.to_string() && (first..=last).contains(&packet.selector)
        }
        PortMatch::Icmp { kind, .. } => {
            packet.protocol == "icmp" && kind.is_none_or(|k| packet.selector == u16::from(k))
        }
        PortMatch::Icmpv6 { kind, .. } => {
            packet.protocol == "icmpv6" && kind.is_none_or(|k| packet.selector == u16::from(k))
        }
        PortMatch::Protocol(number) => packet.protocol == "proto" && packet.selector == u16::from(number),
    };
    // Behind a NAT64, the IPv4 address decides.
    let meant = match packet.to {
        IpAddr::V6(to) if policy.nat64.iter().any(|outer| outer.contains(&to)) => {
            IpAddr::V4((to.to_bits() as u32).into())
        }
        to => to,
    };
    let matches = |rule: &&Rule| {
        let now = rule.when.is_none_or(|id| {
            let Schedule { zone, times, .. } = &policy.schedules[id.0 as usize];
            let minute = packet.minutes[usize::from(*zone == ZONES[1])];
            times.iter().any(|time| time.contains(&minute))
        });
        let from = rule.from.as_ref().is_none_or(|from| from.iter().any(|net| net.contains(&packet.from)));
        let to = rule.services.as_ref().is_none_or(|ids| {
            let mut services = ids.iter().map(|id| &policy.services[id.0 as usize]);
            services.any(|s| s.to.iter().any(|net| net.contains(&meant)) && s.ports.iter().any(takes))
        });
        now && from && to
    };
    let watched = |action, monitor| if monitor && action != Action::Allow { Action::Monitor } else { action };
    policy.lan.rules.iter().find(matches).map_or_else(
        || (watched(policy.lan.default, policy.monitor), None),
        |rule| (watched(rule.action, policy.monitor || rule.monitor), Some(rule.label())),
    )
}

/// Whether printed blocks hold an address.
fn in_blocks(blocks: &[Block], address: IpAddr) -> bool {
    let inside =
        |block: &&Block| block.prefix.contains(&address) && !block.except.iter().any(|net| net.contains(&address));
    blocks.iter().any(|block| inside(&block))
}

/// Whether a printed word holds a packet; an ICMP packet's code is 0.
fn in_word(word: &str, packet: &Packet) -> bool {
    let number = |text: &str| text.parse::<u16>().expect("a number");
    match word.split_once('/') {
        None => word == "any" || word == packet.protocol || (word == "other" && packet.protocol == "proto"),
        Some((protocol, range)) => {
            let key = |text: &str| match text.split_once('/') {
                Some((kind, code)) => number(kind) << 8 | number(code),
                None if protocol.starts_with("icmp") => number(text) << 8,
                None => number(text),
            };
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let own = if protocol.starts_with("icmp") { packet.selector << 8 } else { packet.selector };
            protocol == packet.protocol && (key(first)..=key(last)).contains(&own)
        }
    }
}

/// Whether printed times hold a packet's.
fn in_times(when: &[String], packet: &Packet) -> bool {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let day = |name: &str| DAYS.iter().position(|day| *day == name).expect("a day") as u16;
    let clock = |text: &str| {
        let (hours, minutes) = text.split_once(':').expect("a time");
        hours.parse::<u16>().expect("hours") * 60 + minutes.parse::<u16>().expect("minutes")
    };
    let in_zone = |text: &str| {
        let (spans, zone) = text.rsplit_once(' ').expect("a zone");
        let minute = packet.minutes[usize::from(zone == ZONES[1])];
        spans.split(", ").any(|span| {
            let mut words = span.split(' ');
            let days = words.next().expect("days");
            let (first, last) = days.split_once('-').unwrap_or((days, days));
            let times: Vec<&str> = words.collect();
            (day(first)..=day(last)).contains(&(minute / 1440))
                && (times.is_empty()
                    || times.iter().any(|time| {
                        let (from, to) = time.split_once('-').expect("a range");
                        (clock(from)..clock(to)).contains(&(minute % 1440))
                    }))
        })
    };
    when.is_empty() || when.iter().any(|all| all.split(" and ").all(in_zone))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_diff_holds_the_packets_whose_verdict_changes_and_no_others(
        [old, new] in pair(), packets in prop::collection::vec(packet(), 100),
    ) {
        let diff = Diff::new(&old, &new).expect("small policies");
        for packet in &packets {
            let holds = |flows: &Flows| {
                in_blocks(&flows.to, packet.to)
                    && in_blocks(&flows.from, packet.from)
                    && flows.ports.ports.iter().any(|word| in_word(word, packet))
                    && !flows.ports.except.iter().any(|word| in_word(word, packet))
                    && in_times(&flows.when, packet)
            };
            let lan = diff.flows.iter().filter(|change| change.policy == "lan");
            let told: Vec<_> = lan
                .flat_map(|change| change.flows.iter().filter(|flows| holds(flows)).map(move |_| change))
                .map(|Change { old, new, .. }| [(old.action, old.rule.clone()), (new.action, new.rule.clone())])
                .collect();
            let wanted = [scan(&old, packet), scan(&new, packet)].map(|(action, rule)| (policy_words::name(action), rule));
            let wanted = if wanted[0].0 == wanted[1].0 { vec![] } else { vec![wanted] };
            prop_assert_eq!(told, wanted, "{:?}\n{}", packet, diff);
        }
    }
}

fn parse(text: &str) -> Policy {
    Policy::parse("p", text, &Catalogs::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn diff(old: &str, new: &str) -> String {
    Diff::new(&parse(old), &parse(new)).expect("small policies").to_string()
}

const PUSH: &str = "default = \"drop\"\n[[service]]\nname = \"push\"\nto = [\"17.0.0.0/8\", \"2620:149::/32\"]\nports = [\"tcp/5223\"]\n";

#[test]
fn a_rule_more_is_told_with_its_flows() {
    let rule = "[[rule]]\nname = \"tablets\"\naction = \"allow\"\nservices = [\"push\"]\nfrom = [\"10.1.0.0/24\"]\n";
    assert_eq!(
        diff(PUSH, &format!("{PUSH}{rule}")),
        "LAN  17.0.0.0/8 tcp/5223 from 10.1.0.0/24: drop (default) -> allow (rule tablets, service push)\n"
    );
    let anybody = rule.replace("from = [\"10.1.0.0/24\"]\n", "");
    assert_eq!(
        diff(&format!("{PUSH}{anybody}"), PUSH),
        "LAN  17.0.0.0/8, 2620:149::/32 tcp/5223: allow (rule tablets, service push) -> drop (default)\n"
    );
}

#[test]
fn prefixes_without_parts_are_told_exactly() {
    let policy = |rules: &str| {
        let services = [("apple", "17.0.0.0/8"), ("part", "17.5.0.0/16"), ("host", "17.5.5.5")]
            .map(|(name, to)| format!("[[service]]\nname = \"{name}\"\nto = [\"{to}\"]\n"));
        let rules = rules.split_whitespace().map(|rule| {
            let (action, service) = rule.split_once(':').expect("an action and a service");
            format!("[[rule]]\nname = \"{action}-{service}\"\naction = \"{action}\"\nservices = [\"{service}\"]\n")
        });
        format!("default = \"drop\"\n{}{}", services.concat(), rules.collect::<String>())
    };
    assert_eq!(
        diff(&policy("allow:host drop:part"), &policy("allow:host drop:part allow:apple")),
        "LAN  17.0.0.0/8 except 17.5.0.0/16 any: drop (default) -> allow (rule allow-apple, service apple)\n"
    );
    assert_eq!(
        diff(&policy("drop:host"), &policy("drop:host allow:part")),
        "LAN  17.5.0.0/16 except 17.5.5.5/32 any: drop (default) -> allow (rule allow-part, service part)\n"
    );
}

#[test]
fn the_same_in_other_words_changes_nothing() {
    let halves = PUSH.replace("17.0.0.0/8", "17.0.0.0/9\", \"17.128.0.0/9\", \"17.1.0.0/16");
    let rule = "[[rule]]\naction = \"allow\"\nservices = [\"push\"]\n";
    assert_eq!(diff(&format!("{PUSH}{rule}"), &format!("{halves}{rule}")), "no flow changes verdict\n");
}

#[test]
fn everything_is_any_and_all_but_some_is_said_so() {
    let policy = |default: &str| {
        format!(
            "default = \"{default}\"\n[[service]]\nname = \"web\"\nto = [\"any\"]\nports = [\"tcp/443\"]\n[[rule]]\naction = \"allow\"\nservices = [\"web\"]\n[router]\ndefault = \"{default}\"\n"
        )
    };
    assert_eq!(
        diff(&policy("drop"), &policy("allow")),
        "LAN  any any except tcp/443: drop (default) -> allow (default)\nrouter  any any: drop (default) -> allow (default)\n"
    );
}

#[test]
fn names_and_words_are_compared() {
    let store = "[[rule]]\nname = \"store\"\naction = \"allow\"\nservices = [\"apple/encrypted-dns\"]\n";
    assert_eq!(
        diff("default = \"drop\"", &format!("default = \"drop\"\nfragments = \"allow\"\n{store}")),
        "LAN  doh.dns.apple.com tcp/443: drop (default) -> allow (rule store, service apple/encrypted-dns)\nfragments: drop -> allow\n"
    );
}

#[test]
fn other_answers_to_questions_are_told() {
    assert_eq!(
        diff("default = \"drop\"", "default = \"drop\"\n[dns]\ndenied = \"nxdomain\"\nunnamed = \"zero\""),
        "answer for names that are denied: forward -> nxdomain\nanswer for names of no rule: forward -> zero\n"
    );
}

#[test]
fn names_are_compared_by_what_their_services_ports_and_sources_allow() {
    let policy = |hosts: &str, ports: &str, rule: &str| {
        format!(
            "default = \"drop\"\n[[service]]\nname = \"s\"\nto = [{hosts}]\nports = [\"tcp/443\"{ports}]\n[[rule]]\nname = \"r\"\naction = \"allow\"\nservices = [\"s\"]\n{rule}"
        )
    };
    let old = policy("\"*.a.example\", \"b.example\"", "", "");
    // A wildcard has held the name already.
    assert_eq!(
        diff(&old, &policy("\"*.a.example\", \"b.example\", \"x.a.example\"", "", "")),
        "no flow changes verdict\n"
    );
    assert_eq!(
        diff(&old, &policy("\"*.a.example\"", "", "")),
        "LAN  b.example tcp/443: allow (rule r, service s) -> drop (default)\n"
    );
    assert_eq!(
        diff(&old, &policy("\"*.a.example\", \"b.example\"", ", \"udp/443\"", "from = [\"10.1.0.0/16\"]\n")),
        "LAN  b.example, *.a.example udp/443 from 10.1.0.0/16: drop (default) -> allow (rule r, service s)\n\
         LAN  b.example, *.a.example tcp/443 from 0.0.0.0/0 except 10.1.0.0/16: allow (rule r, service s) -> drop (default)\n\
         LAN  b.example, *.a.example tcp/443 from ::/0: allow (rule r, service s) -> drop (default)\n"
    );
}

#[test]
fn a_portal_is_told_by_what_clients_reach_while_they_are_not_admitted() {
    let rule = "[[rule]]\nname = \"tablets\"\naction = \"allow\"\nservices = [\"push\"]\n";
    let portal = "[portal]\nservices = [\"login\"]\nfrom = [\"10.1.0.0/16\"]\n\
                  [[service]]\nname = \"login\"\nto = [\"203.0.113.9\"]\nports = [\"tcp/443\"]\n";
    let (old, new) = (format!("{PUSH}{rule}"), format!("{PUSH}{rule}{portal}"));
    assert_eq!(
        diff(&old, &new),
        "LAN  203.0.113.9/32 tcp/443 from 10.1.0.0/16: drop (default) -> allow (rule portal, service login)\n\
         LAN  0.0.0.0/0 except 17.0.0.0/8 and 203.0.113.9/32 any from 10.1.0.0/16 while not admitted: drop (default) -> reject (rule not-admitted)\n\
         LAN  17.0.0.0/8 any except tcp/5223 from 10.1.0.0/16 while not admitted: drop (default) -> reject (rule not-admitted)\n\
         LAN  203.0.113.9/32 any except tcp/443 from 10.1.0.0/16 while not admitted: drop (default) -> reject (rule not-admitted)\n\
         LAN  17.0.0.0/8 tcp/5223 from 10.1.0.0/16 while not admitted: allow (rule tablets, service push) -> reject (rule not-admitted)\n"
    );
    assert_eq!(diff(&new, &new), "no flow changes verdict\n");
}

#[test]
fn times_are_told_by_the_days_of_the_week() {
    let rule = Rule { when: Some(ScheduleId(0)), ..Rule::new(Action::Allow) };
    let times = (0..5).map(|day| day * 1440 + 480..day * 1440 + 900).collect();
    let schedules = vec![Schedule { name: "lessons".into(), zone: "Europe/Berlin".into(), times }];
    let old = Policy::default();
    let mut new = Policy { schedules, ..Policy::default() };
    new.lan.rules.push(rule);
    assert_eq!(
        Diff::new(&old, &new).expect("small").to_string(),
        "LAN  any any at Mon-Fri 08:00-15:00 Europe/Berlin: drop (default) -> allow (rule line-1)\n"
    );
}
