//! Questions that policies decide by cases, and by an oracle that asks rule by rule and port by port.

use hickory_proto::rr;
use proptest::prelude::*;

use super::*;
use crate::{catalog::Catalogs, policy::Rules};

/// A rule's line: whose, what, and by which services; each service is `name=destinations:ports`.
fn policy(rules: &str) -> Policy {
    let mut services = String::new();
    let mut text = String::new();
    for line in rules.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        text += &format!("[[rule]]\naction = \"{}\"\n", words.next().unwrap());
        let mut named = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some(("from", net)) => text += &format!("from = [\"{net}\"]\n"),
                Some(("when", schedule)) => text += &format!("when = \"{schedule}\"\n"),
                Some((name, rest)) => {
                    let (to, ports) = rest.split_once(':').unwrap();
                    services += &format!("[[service]]\nname = \"{name}\"\nto = [\"{to}\"]\nports = [\"{ports}\"]\n");
                    named.push(name);
                }
                None if word == "monitor" => text += "monitor = true\n",
                None => named.push(word),
            }
        }
        if !named.is_empty() {
            text += &format!("services = {named:?}\n");
        }
    }
    let head = "default = \"drop\"\n[dns]\ndenied = \"nxdomain\"\nunnamed = \"refused\"\n[exempt]\nfrom = [\"10.9.0.9\"]\n\
                [[schedule]]\nname = \"lessons\"\nzone = \"UTC\"\ntimes = [\"mon\"]\n";
    Policy::parse("p", &format!("{head}{services}{text}"), &Catalogs::default())
        .unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|_| Name::from(&rr::Name::root()))
}

/// What a client's question leads to.
fn asked(policy: &Policy, client: &str, asked: &str, schedules: &[u32]) -> &'static str {
    let schedules: Vec<ScheduleId> = schedules.iter().copied().map(ScheduleId).collect();
    match DnsPolicy::new(policy).standing(client.parse().unwrap(), &name(asked), &schedules) {
        Standing::Allowed => "allowed",
        Standing::Denied => "denied",
        Standing::Unnamed => "unnamed",
    }
}

const CLIENT: &str = "10.1.0.2";

#[test]
fn the_first_rule_that_speaks_of_a_name_decides() {
    let relay = "reject relay=mask.icloud.com:tcp/443 \n allow icloud=*.icloud.com:tcp/443";
    let policy = policy(relay);
    for (name, standing) in [
        ("mask.icloud.com", "denied"),
        ("MASK.iCloud.com", "denied"),
        ("www.icloud.com", "allowed"),
        ("a.mask.icloud.com", "allowed"),
        ("icloud.com", "unnamed"),
        ("example.org", "unnamed"),
    ] {
        assert_eq!(asked(&policy, CLIENT, name, &[]), standing, "{name}");
    }
}

#[test]
fn a_name_is_of_the_services_of_all_its_patterns() {
    let policy = policy("allow icloud=*.icloud.com:tcp/443 \n reject relay=mask.icloud.com:tcp/443");
    assert_eq!(asked(&policy, CLIENT, "mask.icloud.com", &[]), "allowed");
}

#[test]
fn whose_ports_are_not_all_denied_is_not_denied() {
    for (rules, standing) in [
        ("drop a=www.x.com:tcp/80 \n allow b=www.x.com:tcp/443", "allowed"),
        ("drop a=www.x.com:tcp/80 \n allow b=www.x.com:tcp/80-443", "allowed"),
        ("drop a=www.x.com:tcp \n allow b=www.x.com:tcp/443", "denied"),
        ("drop a=www.x.com:tcp/80 \n drop b=www.x.com:tcp/443 \n allow c=*.x.com:tcp/443", "denied"),
        ("drop a=www.x.com:tcp/0-99 \n drop b=www.x.com:tcp/100-443 \n allow c=*.x.com:tcp/80-120", "denied"),
        ("drop a=www.x.com:tcp/443 \n drop \n allow b=www.x.com:any", "denied"),
        ("drop a=www.x.com:tcp/443", "denied"),
    ] {
        assert_eq!(asked(&policy(rules), CLIENT, "www.x.com", &[]), standing, "{rules}");
    }
}

#[test]
fn what_is_allowed_without_a_name_takes_no_denial_back() {
    for wide in ["allow", "allow web=any:tcp", "allow net=17.0.0.0/8:any"] {
        let policy = policy(&format!("reject relay=mask.icloud.com:udp/443 \n {wide}"));
        assert_eq!(asked(&policy, CLIENT, "mask.icloud.com", &[]), "denied", "{wide}");
    }
    let open = Policy {
        lan: Rules { default: Action::Allow, ..policy("reject a=x.com:tcp/443").lan },
        ..policy("reject a=x.com:tcp/443")
    };
    assert_eq!(asked(&open, CLIENT, "x.com", &[]), "denied");
}

#[test]
fn rules_without_services_and_services_of_everywhere_speak_of_all_names() {
    for (rules, standing) in [
        ("allow", "allowed"),
        ("drop", "denied"),
        ("allow web=any:tcp/443", "allowed"),
        ("allow web=0.0.0.0/0:tcp/443", "allowed"),
        ("drop all=any:any", "denied"),
        // Only some of every name's ports.
        ("drop dot=any:tcp/853", "unnamed"),
        ("drop v4=0.0.0.0/0:any", "unnamed"),
        ("allow net=17.0.0.0/8:any", "unnamed"),
        ("drop net=17.0.0.0/8:any", "unnamed"),
    ] {
        assert_eq!(asked(&policy(rules), CLIENT, "www.x.com", &[]), standing, "{rules}");
    }
}

#[test]
fn a_rule_is_about_its_clients_at_its_time() {
    let policy = policy("drop a=x.com:any from=10.1.0.0/16 when=lessons \n allow a from=10.0.0.0/8");
    for (client, schedules, standing) in [
        (CLIENT, &[0][..], "denied"),
        (CLIENT, &[], "allowed"),
        ("10.2.0.2", &[0], "allowed"),
        ("fd00::2", &[0], "unnamed"),
        ("10.9.0.9", &[0], "allowed"),
    ] {
        assert_eq!(asked(&policy, client, "x.com", schedules), standing, "{client} {schedules:?}");
    }
    assert_eq!(asked(&policy, "10.9.0.9", "4.3.2.1.in-addr.arpa", &[]), "allowed", "exempt");
}

#[test]
fn who_only_watches_denies_nothing() {
    assert_eq!(asked(&policy("drop a=x.com:any monitor"), CLIENT, "x.com", &[]), "allowed");
    let mut watching = policy("drop a=x.com:any");
    let decide = |policy: &Policy, asked: &str| DnsPolicy::new(policy).decide([10, 1, 0, 2].into(), &name(asked), &[]);
    assert_eq!((decide(&watching, "x.com"), decide(&watching, "y.com")), (Decision::NxDomain, Decision::Refuse));
    watching.monitor = true;
    assert_eq!((decide(&watching, "x.com"), decide(&watching, "y.com")), (Decision::Forward, Decision::Forward));
}

#[test]
fn the_root_and_addresses_names_are_unnamed_unless_a_service_has_them() {
    let policy = policy("allow own=*.10.in-addr.arpa:any \n drop arpa=home.arpa:any \n drop");
    for (name, standing) in [
        (".", "unnamed"),
        ("4.3.2.1.in-addr.arpa", "unnamed"),
        ("8.b.d.0.1.0.0.2.ip6.arpa", "unnamed"),
        ("2.0.1.10.in-addr.arpa", "allowed"),
        ("home.arpa", "denied"),
        ("in-addr.example", "denied"),
    ] {
        assert_eq!(asked(&policy, CLIENT, name, &[]), standing, "{name}");
    }
}

/// Ports of which every port set of the generated services has all that matter.
const PORTS: [&str; 5] = ["tcp/80", "tcp/81", "tcp/443", "udp/443", "proto/47"];

fn naive(policy: &Policy, client: IpAddr, name: &str, now: &[ScheduleId]) -> Standing {
    let applies = |rule: &&Rule| {
        rule.when.is_none_or(|when| now.contains(&when))
            && rule.from.as_ref().is_none_or(|from| from.iter().any(|net| net.contains(&client)))
    };
    let rules: Vec<&Rule> = policy.lan.rules.iter().filter(applies).collect();
    let matches = |pattern: String| match pattern.strip_prefix('*') {
        Some(suffix) => name.ends_with(suffix),
        None => name == pattern,
    };
    let cells = |ports: &[PortMatch]| ports::ranges(ports);
    let holds = |service: &Service, port: &str| {
        let cell = cells(&[crate::policy::words::port(port).unwrap()])[0].0;
        cells(&service.ports).iter().any(|range| (range.0..=range.1).contains(&cell))
    };
    let services = |rule: &Rule| -> Vec<&Service> {
        rule.services.iter().flatten().map(|id| &policy.services[id.0 as usize]).collect()
    };
    let allows = |rule: &Rule| rule.action == Action::Allow || rule.monitor;
    let of_port = |rule: &Rule, port: &str| {
        services(rule).iter().any(|one| one.names.iter().any(|name| matches(name.to_string())) && holds(one, port))
    };
    let by_name = |rule: &Rule| PORTS.iter().any(|port| of_port(rule, port));
    let at_large = |rule: &Rule| {
        rule.services.is_none()
            || services(rule).iter().any(|one| match allows(rule) {
                true => one.to.iter().any(|net| net.prefix_len() == 0),
                false => one.to.len() == 2 && one.ports == [PortMatch::Any],
            })
    };
    let Some(first) = rules.iter().find(|rule| by_name(rule) || at_large(rule)) else { return Standing::Unnamed };
    if allows(first) {
        return Standing::Allowed;
    }
    if !by_name(first) && (name.is_empty() || name.ends_with("in-addr.arpa")) {
        return Standing::Unnamed;
    }
    let passes = |port: &&str| {
        let decides = |rule: &&&Rule| of_port(rule, port) || at_large(rule) && !allows(rule);
        rules.iter().find(decides).is_some_and(|rule| allows(rule))
    };
    if PORTS.iter().any(passes) { Standing::Allowed } else { Standing::Denied }
}

fn policies() -> impl Strategy<Value = Policy> {
    let to = prop_oneof![
        6 => prop::sample::subsequence(vec!["a.x.org", "*.x.org", "x.org", "*.a.x.org", "*.10.in-addr.arpa"], 1..3),
        1 => Just(vec!["0.0.0.0/0", "::/0"]),
        1 => Just(vec!["0.0.0.0/0"]),
        1 => Just(vec!["17.0.0.0/8", "b.x.org"]),
    ];
    let ports = prop::sample::select(vec![
        "\"tcp/80\"",
        "\"tcp/443\"",
        "\"tcp/443\", \"udp/443\"",
        "\"tcp/80-443\"",
        "\"any\"",
    ]);
    let from = prop::sample::select(vec![
        "",
        "from = [\"10.1.0.0/16\"]",
        "from = [\"10.1.0.2\", \"10.1.0.0/24\", \"fd00::/8\"]",
        "from = [\"any\"]",
    ]);
    let when = prop::sample::select(vec!["", "", "when = \"s0\"", "when = \"s1\""]);
    let services = prop::sample::subsequence(vec!["s0", "s1", "s2", "s3", "s4"], 0..3);
    let action = prop::sample::select(vec![
        "action = \"allow\"",
        "action = \"drop\"",
        "action = \"reject\"",
        "action = \"drop\"\nmonitor = true",
    ]);
    let rules = prop::collection::vec((action, services, from, when), 0..7);
    (prop::collection::vec((to, ports), 5), rules).prop_map(|(services, rules)| {
        let mut text = String::from("default = \"drop\"\n");
        for index in 0..2 {
            text += &format!("[[schedule]]\nname = \"s{index}\"\nzone = \"UTC\"\ntimes = [\"mon\"]\n");
        }
        for (index, (to, ports)) in services.iter().enumerate() {
            text += &format!("[[service]]\nname = \"s{index}\"\nto = {to:?}\nports = [{ports}]\n");
        }
        for (action, services, from, when) in rules {
            let services = if services.is_empty() { String::new() } else { format!("services = {services:?}\n") };
            text += &format!("[[rule]]\n{action}\n{services}{from}\n{when}\n");
        }
        Policy::parse("p", &text, &Catalogs::default()).unwrap_or_else(|wrong| panic!("{wrong}"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn it_decides_as_a_look_at_every_rule_and_port_does(policy in policies(), schedules in prop::sample::subsequence(vec![ScheduleId(0), ScheduleId(1)], 0..3)) {
        let decided = DnsPolicy::new(&policy);
        for client in ["10.1.0.2", "10.1.9.2", "10.2.0.2", "fd00::2", "2001:db8::2"] {
            let client = client.parse().unwrap();
            for asked in ["a.x.org", "b.x.org", "b.a.x.org", "x.org", "y.org", "1.10.in-addr.arpa", "2.in-addr.arpa", ""] {
                let wanted = naive(&policy, client, asked, &schedules);
                prop_assert_eq!(decided.standing(client, &name(asked), &schedules), wanted, "{} of {}\n{}", asked, client, policy);
            }
        }
    }
}

#[test]
fn clients_are_answered_as_if_the_portal_had_admitted_them() {
    let text = "default = \"drop\"\n[dns]\ndenied = \"nxdomain\"\nunnamed = \"refused\"\n\
                [[service]]\nname = \"login\"\nto = [\"captive.example\"]\n[portal]\nservices = [\"login\"]\n\
                [[service]]\nname = \"web\"\nto = [\"www.example\"]\n[[rule]]\naction = \"allow\"\nservices = [\"web\"]\n";
    let policy = DnsPolicy::new(&Policy::parse("p", text, &Catalogs::default()).expect("valid"));
    let decide =
        |name: &str| policy.decide("10.1.0.2".parse().expect("an address"), &name.parse().expect("a name"), &[]);
    assert_eq!([decide("captive.example"), decide("www.example")], [Decision::Forward; 2]);
    assert_eq!(decide("other.example"), Decision::Refuse);
}
