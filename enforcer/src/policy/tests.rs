//! Mistakes are told where they are; whatever is printed parses to the same.

use proptest::prelude::*;

use super::*;
use crate::catalog::Catalogs;

const SERVICE: &str =
    "default = \"drop\"\n[[service]]\nname = \"push\"\nto = [\"17.0.0.0/8\"]\nports = [\"tcp/443\"]\n";

/// A policy that says most of what one can.
pub const EVERY_WORD: &str = r#"
default = "drop"
comment = "ours"
monitor = true
malformed = "monitor"
icmp-errors = "drop"
nat64 = ["64:ff9b::/96", "2001:db8:64::/96"]
[prefixes]
servers = ["10.9.0.0/16"]
staff = ["10.2.0.0/16", "$servers"]
[exempt]
from = ["$servers", "10.8.0.1"]
to = ["192.0.2.0/24"]
[[schedule]]
name = "lessons"
zone = "europe/berlin"
times = ["mon-fri 08:00-13:00"]
[[rule]]
action = "reject"
comment = "no games"
from = ["$staff"]
when = "lessons"
monitor = true
log = "1/100"
[[router.rule]]
action = "drop"
log = false
[inbound]
default = "allow"
timeouts = { udp-opening = 1, tcp = 0x10 }
[names]
grace = 7
[dns]
comment = "no relay"
denied = "nxdomain"
unnamed = "refused"
[[service]]
name = "web"
to = ["*.example.org", "www.example.com", "203.0.113.0/24"]
[portal]
comment = "the inn's"
from = ["10.3.0.0/16"]
services = ["web"]
action = "drop"
"#;

/// The mistakes in a policy: line, column, message and help.
fn mistakes(text: &str) -> Vec<(usize, usize, String, String)> {
    let found = Policy::parse("policy.toml", text, &Catalogs::default()).expect_err("a mistake");
    found.mistakes.into_iter().map(|m| (m.line, m.column, m.message, m.help)).collect()
}

#[test]
fn each_kind_of_mistake_is_told_with_its_place_and_what_would_be_right() {
    // What follows the good service, then line, column, and parts of message and help.
    let cases = [
        ("polcy = 1", 6, 1, "unknown key \"polcy\"", "valid here: default"),
        ("[[rule]]\naction = \"allow\"\nfom = [\"any\"]", 8, 1, "unknown key \"fom\"", "did you mean \"from\""),
        ("[[rule]]\naction = \"alow\"", 7, 10, "\"alow\" is not an action", "\"allow\" or \"drop\" or \"reject\""),
        ("[[rule]]\nservices = [\"push\"]", 6, 1, "no action", "action = "),
        ("[[rule]]\naction = 1", 7, 10, "an integer where text", "quotes"),
        ("[[rule]]\naction = \"allow\"\nservices = [\"pusj\"]", 8, 13, "no service \"pusj\"", "did you mean \"push\""),
        ("[[rule]]\naction = \"allow\"\nservices = [\"push\", \"push\"]", 8, 21, "named twice", "once"),
        ("[[rule]]\naction = \"allow\"\nservices = []", 8, 12, "is empty", "leave the key out"),
        ("[[rule]]\naction = \"allow\"\nservices = \"push\"", 8, 12, "is a list, not a string", "services = ["),
        ("[[rule]]\naction = \"allow\"\nfrom = [\"10.0.0.1/8\"]", 8, 9, "bits set beyond", "\"10.0.0.0/8\""),
        ("[[rule]]\naction = \"allow\"\nfrom = [\"10.0.0.0/33\"]", 8, 9, "not an address prefix", "17.0.0.0/8"),
        ("[[rule]]\naction = \"allow\"\nfrom = [\"::ffff:1.2.3.4\"]", 8, 9, "IPv4-mapped", "IPv4 prefix itself"),
        (
            "[[rule]]\nname = \"a\"\naction = \"allow\"\n[[rule]]\nname = \"a\"\naction = \"drop\"",
            10,
            8,
            "already a rule",
            "own",
        ),
        ("[[service]]\nname = \"push\"\nto = [\"any\"]", 7, 8, "already a service", "own"),
        ("[[service]]\nto = [\"any\"]", 6, 1, "has no name", "name = "),
        ("[[service]]\nname = \"a b\"\nto = [\"any\"]", 7, 8, "not a name", "letters"),
        ("[[service]]\nname = \"x\"", 6, 1, "no destinations", "to = "),
        ("[[service]]\nname = \"x\"\nto = [\"www..apple.com\"]", 8, 7, "neither a name nor a prefix", "labels"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"tcp/70000\"]", 9, 10, "no valid port", "0 to 65535"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"tcp/+80\"]", 9, 10, "no valid port", "0 to 65535"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"tcp/500-100\"]", 9, 10, "empty range", "tcp/100-500"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"tpc/443\"]", 9, 10, "not a port", "tcp/443"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"icmp/300\"]", 9, 10, "no valid type", "0 to 255"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"proto/6\"]", 9, 10, "word of its own", "\"tcp\""),
        ("[router]\n[[router.rule]]\naction = \"drop\"\nfrom = [\"any\"]", 9, 1, "unknown key \"from\"", "services"),
        ("[inbound]\ndefault = \"reject\"", 7, 11, "not an action", "\"allow\" or \"drop\""),
        ("[inbound]\n[[inbound.rule]]\naction = \"drop\"\nlog = true", 9, 1, "unknown key \"log\"", "when"),
        ("[inbound.timeouts]\nudp = 0", 7, 7, "not a time-out", "from 1 to 31536000"),
        ("[inbound.timeouts]\nudp = 31536001", 7, 7, "not a time-out", "from 1 to 31536000"),
        ("[inbound.timeouts]\nudp = \"2m\"", 7, 7, "not a time-out", "udp = 120"),
        ("[inbound.timeouts]\ntcp-open = 1", 7, 1, "unknown key", "did you mean \"tcp-opening\""),
        ("[dns]\ndenied = \"nxdomian\"", 7, 10, "\"nxdomian\" is not an answer", "did you mean \"nxdomain\""),
        ("[dns]\nunnamed = \"drop\"", 7, 11, "\"drop\" is not an answer", "\"refused\" or \"forward\""),
        ("[dns]\ndenied = true", 7, 10, "a boolean where text", "quotes"),
        ("[dns]\ndenid = \"zero\"", 7, 1, "unknown key \"denid\"", "did you mean \"denied\""),
        ("[portal]\nfrom = [\"any\"]", 6, 1, "the portal has no services", "services = ["),
        ("[portal]\nservices = []", 7, 12, "is empty", "leave the key out"),
        ("[portal]\nservices = [\"pusj\"]", 7, 13, "no service \"pusj\"", "did you mean \"push\""),
        ("[portal]\nservices = [\"push\"]\naction = \"allow\"", 8, 10, "not an action here", "\"reject\" or \"drop\""),
        ("[portal]\nservices = [\"push\"]\nfrom = [\"10.0.0.1/8\"]", 8, 9, "bits set beyond", "\"10.0.0.0/8\""),
        ("[portal]\nservices = [\"push\"]\nform = [\"any\"]", 8, 1, "unknown key \"form\"", "did you mean \"from\""),
        ("portal = [\"push\"]", 1, 10, "is a table", "[portal]"),
        (
            "[[rule]]\nname = \"portal\"\naction = \"drop\"\n[portal]\nservices = [\"push\"]",
            9,
            1,
            "already a rule \"portal\"",
            "line 7",
        ),
        ("dns = \"zero\"", 1, 7, "is a table", "[dns]"),
        ("[[rule]]\naction = \"monitor\"", 7, 10, "\"monitor\" is not an action here", "monitor = true"),
        ("[[rule]]\naction = \"allow\"\nmonitor = true", 8, 11, "nothing to monitor", "log = true"),
        ("[[rule]]\naction = \"drop\"\nmonitor = 1", 8, 11, "an integer where true or false", "monitor = true"),
        ("[[rule]]\naction = \"drop\"\nlog = \"1/0\"", 8, 7, "\"1/0\" is no part", "\"1/100\""),
        ("[[rule]]\naction = \"drop\"\nlog = \"1%\"", 8, 7, "\"1%\" is no part", "\"1/100\""),
        ("[[rule]]\naction = \"drop\"\nlog = 100", 8, 7, "an integer where a part", "\"1/100\""),
        ("[[rule]]\naction = \"drop\"\ncomment = 1", 8, 11, "an integer where text", "quotes"),
        ("[[rule]]\naction = \"drop\"\nwhen = \"night\"", 8, 8, "no schedule \"night\"", "[[schedule]]"),
        ("[[schedule]]\nname = \"a\"\nzone = \"UTC\"", 6, 1, "has no times", "times = ["),
        ("[[schedule]]\nname = \"a\"\ntimes = [\"mon\"]", 6, 1, "has no zone", "zone = "),
        ("[[schedule]]\nname = \"a\"\nzone = \"UTC\"\ntimes = []", 9, 9, "is empty", "times = ["),
        ("[[schedule]]\nzone = \"UTC\"\ntimes = [\"mon\"]", 6, 1, "a schedule has no name", "name = "),
        ("[prefixes]\na = [\"10.0.0.1/8\"]", 7, 6, "bits set beyond", "10.0.0.0/8"),
        ("[prefixes]\na = \"10.0.0.0/8\"", 7, 5, "is a list, not a string", "a = ["),
        ("[prefixes]\n\"a b\" = [\"any\"]", 7, 1, "not a name", "letters"),
        ("[prefixes]\na = [\"$pupils\"]", 7, 6, "no variable \"$pupils\"", "pupils = ["),
        ("[prefixes]\na = [\"$z\"]\nz = [\"$zoo\"]\nzoom = [\"any\"]", 8, 6, "no variable \"$zoo\"", "mean \"$zoom\""),
        ("[prefixes]\na = [\"$a\"]", 7, 6, "in a circle", "$a → $a"),
        ("[prefixes]\na = [\"$b\"]\nb = [\"$c\"]\nc = [\"$b\"]", 9, 6, "in a circle", "$b → $c → $b"),
        ("[prefixes]\npupils = [\"any\"]\n[exempt]\nto = [\"$pupil\"]", 9, 7, "no variable", "mean \"$pupils\""),
        ("[exempt]", 6, 1, "nothing is exempt", "from = "),
        ("[exempt]\nservices = [\"push\"]\nto = [\"any\"]", 7, 1, "unknown key", "from, to"),
        (
            "[exempt]\nto = [\"any\"]\n[[service]]\nname = \"exempt\"\nto = [\"any\"]",
            9,
            8,
            "already a service \"exempt\"",
            "policy.toml, line 6",
        ),
        (
            "[exempt]\nfrom = [\"any\"]\n[[rule]]\nname = \"exempt-from\"\naction = \"drop\"",
            9,
            8,
            "already a rule \"exempt-from\"",
            "policy.toml, line 6",
        ),
        ("include = [\"a.toml\"]", 1, 11, "no file cannot include", "save the policy"),
        ("monitor = \"yes\"", 1, 11, "a string where true or false", "without quotes"),
        ("icmp-errors = \"reject\"", 1, 15, "not an action", "\"allow\" or \"drop\" or \"monitor\""),
        ("nat64 = [\"64:ff9b::/64\"]", 1, 10, "has 64 bits, not 96", "64:ff9b::/96"),
        ("nat64 = [\"10.0.0.0/8\"]", 1, 10, "is an IPv4 prefix", "64:ff9b::/96"),
        ("nat64 = \"64:ff9b::/96\"", 1, 9, "is a list, not a string", "nat64 = ["),
        ("[router]\nrule = 3", 7, 8, "list of tables", "[[rule]]"),
        ("inbound = 3", 6, 11, "is a table", "[inbound]"),
        ("x = ", 6, 5, "", "TOML"),
    ];
    for (text, line, column, message, help) in cases {
        // Top-level keys come before the first table.
        let text = if text.starts_with('[') || text.starts_with("x =") {
            format!("{SERVICE}{text}\n")
        } else {
            format!("{text}\n{SERVICE}")
        };
        let top = !text.starts_with("default");
        let found = mistakes(&text);
        assert_eq!(found.len(), 1, "{text}\n{found:?}");
        let (at, column_at, said, advice) = &found[0];
        assert_eq!((*at, *column_at), (if top { 1 } else { line }, column), "{text}\n{found:?}");
        assert!(said.contains(message) && advice.contains(help), "{text}\n{found:?}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_order() {
    let text = format!("{SERVICE}[[rule]]\naction = \"x\"\nservices = [\"y\"]\nfrom = [\"z\"]\n");
    let places: Vec<_> = mistakes(&text).iter().map(|(line, ..)| *line).collect();
    assert_eq!(places, [7, 8, 9]);
}

#[test]
fn many_mistakes_are_counted_not_listed() {
    let text = format!("default = \"drop\"\n{}", "[[rule]]\n".repeat(100));
    let found = Policy::parse("p", &text, &Catalogs::default()).expect_err("mistakes");
    assert_eq!((found.mistakes.len(), found.untold), (20, 80));
}

#[test]
fn a_mistake_is_shown_as_a_compiler_would() {
    let shown =
        Policy::parse("p.toml", "default = \"dorp\"\n", &Catalogs::default()).expect_err("a mistake").to_string();
    let wanted = "p.toml:1:11: \"dorp\" is not an action here\n  1 | default = \"dorp\"\n    |           ^^^^^^\n    = help: write \"allow\" or \"drop\" or \"reject\"";
    assert_eq!(shown, wanted);
}

#[test]
fn rules_name_services_of_catalogues_with_their_names() {
    let text = "default = \"drop\"\n[[rule]]\naction = \"allow\"\nservices = [\"apple/apns\", \"apple/app-store\", \"tag:mac\", \"apple/facetime-imessage\"]\n";
    let policy = Policy::parse("p", text, &Catalogs::default()).expect("valid");
    let services: Vec<_> =
        policy.services.iter().map(|s| (s.name.as_str(), s.to.len(), s.names.len(), s.ports.len())).collect();
    // What is reached on other ports is a part of its own.
    let wanted = [
        ("apple/apns", 9, 1, 4),
        ("apple/app-store", 0, 2, 2),
        ("apple/app-store.2", 0, 3, 1),
        ("apple/notarization", 3, 0, 1),
        ("apple/facetime-imessage", 1, 0, 6),
    ];
    assert_eq!(services, wanted);
    assert_eq!(policy.lan.rules[0].services.as_ref().map(Vec::len), Some(5));
    let again = Policy::parse("p", &policy.to_string(), &Catalogs::default()).expect("valid");
    assert_eq!(again.services, policy.services);
}

#[test]
fn services_may_have_names_alone() {
    let text = "default = \"drop\"\n[[rule]]\naction = \"allow\"\nservices = [\"apple/icloud\"]\n";
    let policy = Policy::parse("p", text, &Catalogs::default()).expect("valid");
    assert_eq!(policy.lan.rules[0].services, Some(vec![ServiceId(0)]));
    assert!(policy.services[0].to.is_empty() && !policy.services[0].names.is_empty());
    assert_eq!(policy.named().count(), 1);
}

#[test]
fn a_mistake_of_megabytes_is_cut() {
    let found = mistakes(&format!("default = \"{}\"", "ä".repeat(1_000_000)));
    assert!(found[0].2.len() < 600);
}

#[test]
fn an_empty_file_lacks_its_default() {
    assert!(mistakes("")[0].2.contains("no default"));
}

#[test]
fn ready_policies_are_valid() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the folder of policies") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            Policy::load(&path).unwrap_or_else(|error| panic!("{error}"));
            seen += 1;
        }
    }
    assert!(seen > 0, "no policies");
}

#[test]
fn every_word_means_what_it_says() {
    let policy = Policy::parse("p", EVERY_WORD, &Catalogs::default()).unwrap_or_else(|error| panic!("{error}"));
    let nets = |words: &[&str]| words.iter().map(|word| word.parse().expect("a prefix")).collect::<Vec<ipnet::IpNet>>();
    let exempt = |name: &str| Rule { name: Some(name.into()), line: 11, ..Rule::new(Action::Allow) };
    let gate = |name: &str, action, gate| Rule {
        name: Some(name.into()),
        line: EVERY_WORD.lines().position(|line| line == "[portal]").expect("a line") as u32 + 1,
        from: Some(nets(&["10.3.0.0/16"])),
        gate: Some(gate),
        ..Rule::new(action)
    };
    let wanted = [
        Rule { from: Some(nets(&["10.8.0.1/32", "10.9.0.0/16"])), ..exempt("exempt-from") },
        Rule { services: Some(vec![ServiceId(0)]), ..exempt("exempt-to") },
        Rule { services: Some(vec![ServiceId(1)]), ..gate("portal", Action::Allow, Gate::Opens) },
        gate("not-admitted", Action::Drop, Gate::Closes),
        Rule {
            comment: Some("no games".into()),
            line: 18,
            from: Some(nets(&["10.2.0.0/16", "10.9.0.0/16"])),
            when: Some(ScheduleId(0)),
            monitor: true,
            log: Log::OneIn(100.try_into().expect("not zero")),
            ..Rule::new(Action::Reject)
        },
    ];
    assert_eq!(policy.lan.rules, wanted);
    assert_eq!(policy.services[0].to, nets(&["192.0.2.0/24"]));
    assert_eq!(policy.router.rules[0].log, Log::Never);
    assert_eq!((policy.monitor, policy.malformed, policy.icmp_errors), (true, Action::Monitor, Action::Drop));
    assert_eq!((policy.nat64.len(), policy.inbound.default), (2, Action::Allow));
    assert_eq!(policy.timeouts, Timeouts { udp_opening: 1, tcp: 16, ..Timeouts::default() });
    assert_eq!((policy.schedules[0].zone.as_str(), policy.schedules[0].times.len()), ("Europe/Berlin", 5));
    assert_eq!(policy.names, NameTimes { grace: 7, ..NameTimes::default() });
    assert_eq!(policy.dns, Dns { denied: Decision::NxDomain, unnamed: Decision::Refuse });
    assert_eq!(
        policy.services[1].names,
        ["www.example.com", "*.example.org"].map(|name| name.parse().expect("a name"))
    );
    same(&policy);
}

/// Fails unless a policy reads the same as it is printed.
fn same(policy: &Policy) {
    let printed = policy.to_string();
    let again = Policy::parse("p", &printed, &Catalogs::default()).unwrap_or_else(|error| panic!("{printed}\n{error}"));
    // What is printed has lines of its own.
    let plain = |policy: &Policy| {
        let mut policy = policy.clone();
        for rules in [&mut policy.lan, &mut policy.router, &mut policy.inbound] {
            rules.rules.iter_mut().for_each(|rule| rule.line = 1);
        }
        format!("{policy:#?}")
    };
    assert_eq!(plain(&again), plain(policy), "{printed}");
}

#[test]
fn variables_may_use_others_in_any_order_and_through_long_chains() {
    let mut text = String::from("default = \"drop\"\n[[rule]]\naction = \"allow\"\nfrom = [\"$v0\"]\n[prefixes]\n");
    for number in 0..2000 {
        text += &format!("v{number} = [\"$v{}\"]\n", number + 1);
    }
    text += "v2000 = [\"10.0.0.0/8\"]\n";
    let policy = Policy::parse("p", &text, &Catalogs::default()).expect("valid");
    assert_eq!(policy.lan.rules[0].from.as_ref().map(Vec::len), Some(1));
}

fn policy_text() -> impl Strategy<Value = String> {
    let net = (any::<u32>(), 0..=32_u8)
        .prop_map(|(bits, length)| ipnet::Ipv4Net::new_assert(bits.into(), length).trunc().to_string());
    let net6 = (any::<u128>(), 0..=64_u8)
        .prop_map(|(bits, length)| ipnet::Ipv6Net::new_assert(bits.into(), length).trunc().to_string());
    let port = prop::sample::select(vec![
        "tcp",
        "tcp/443",
        "udp/1-65535",
        "sctp/0",
        "udplite/7",
        "icmp",
        "icmp/3/4",
        "icmpv6/128",
        "proto/47",
        "any",
    ]);
    let service = (prop::collection::vec(prop_oneof![net, net6], 1..5), prop::collection::vec(port, 1..4));
    let time = ("(mon|tue|wed|thu|fri|sat|sun)(-(mon|sun|wed))?(,fri)?", 0..23_u8, 0..60_u8)
        .prop_map(|(days, hour, minute)| format!("{days} {hour:02}:{minute:02}-{:02}:30", hour + 1));
    let head = (
        prop::sample::select(vec!["allow", "drop", "monitor"]),
        prop::sample::select(vec!["forward", "nxdomain", "zero", "refused"]),
        any::<bool>(),
        prop::sample::subsequence(vec!["64:ff9b::/96", "2001:db8::/96"], 1..=2),
        1..=31_536_000_u32,
        prop::collection::vec(time, 1..4),
        prop::option::of(prop::sample::select(vec!["", "from = [\"$own\"]", "from = [\"any\"]\naction = \"drop\""])),
    );
    let rule = (
        prop::sample::select(vec!["rule", "router.rule", "inbound.rule"]),
        prop::sample::select(vec!["allow", "drop"]),
        prop::option::of(0..3_usize),
        prop::sample::subsequence(vec!["from = [\"10.0.0.0/8\", \"$own\"]", "when = \"s\""], 0..=2),
        prop::sample::select(vec!["", "log = true", "log = false", "log = \"1/4294967295\""]),
        any::<bool>(),
        prop::option::of("[ -~äß\\n\"\\\\]{0,9}"),
    );
    (head, prop::collection::vec(service, 3), prop::collection::vec(rule, 0..5)).prop_map(|(head, services, rules)| {
        let (word, answer, monitor, nat64, seconds, times, portal) = head;
        let portal = portal.map(|portal| format!("[portal]\nservices = [\"s1\"]\n{portal}\n")).unwrap_or_default();
        let mut text = format!(
            "default = \"reject\"\nsources = \"any\"\nfragments = \"{word}\"\nicmp-errors = \"{word}\"\nmonitor = {monitor}\n\
             nat64 = {nat64:?}\n[prefixes]\nown = [\"fd00::1\"]\n[exempt]\nto = [\"$own\"]\n[inbound.timeouts]\nsctp = {seconds}\n\
             [dns]\ndenied = \"{answer}\"\n{portal}\
             [[schedule]]\nname = \"s\"\nzone = \"Asia/Tokyo\"\ntimes = {times:?}\n"
        );
        for (index, (to, ports)) in services.iter().enumerate() {
            text += &format!("[[service]]\nname = \"s{index}\"\nto = {to:?}\nports = {ports:?}\n");
        }
        for (list, action, service, keys, log, monitor, comment) in rules {
            text += &format!("[[{list}]]\naction = \"{action}\"\n");
            let keys = keys.iter().filter(|key| list != "router.rule" || !key.starts_with("from"));
            text.extend(keys.map(|key| format!("{key}\n")));
            if let Some(service) = service {
                text += &format!("services = [\"s{service}\"]\n");
            }
            if let Some(comment) = comment {
                text += &format!("comment = {}\n", toml_edit::Value::from(comment));
            }
            if list != "inbound.rule" {
                text += &format!("{log}\nmonitor = {}\n", monitor && action == "drop");
            }
        }
        text
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_policy(text in policy_text()) {
        same(&Policy::parse("p", &text, &Catalogs::default()).unwrap_or_else(|error| panic!("{text}\n{error}")));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        let _ = Policy::parse("p", &text, &Catalogs::default()).map_err(|error| error.to_string());
    }

    #[test]
    fn no_damaged_policy_makes_the_parser_panic(text in policy_text(), cut in any::<prop::sample::Index>(), junk in "\\PC{0,4}") {
        let at = cut.index(text.chars().count());
        let damaged = text.chars().take(at).chain(junk.chars()).chain(text.chars().skip(at + 1)).collect::<String>();
        let _ = Policy::parse("p", &damaged, &Catalogs::default()).map_err(|error| error.to_string());
    }
}

#[test]
fn destinations_behind_a_nat64_are_written_as_ipv4_prefixes() {
    let text =
        "default = \"drop\"\nnat64 = [\"64:ff9b::/96\"]\n[[service]]\nname = \"x\"\nto = [\"64:ff9b::808:808\"]\n";
    let [(line, column, message, help)] = &mistakes(text)[..] else { panic!("one mistake") };
    assert_eq!((*line, *column, message.as_str()), (5, 6, "64:ff9b::808:808/128 is behind the NAT64"));
    assert!(help.starts_with("write the IPv4 prefix"), "{help}");
}
