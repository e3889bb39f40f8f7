//! Policies and the warnings that they get.

use proptest::prelude::*;

use super::*;
use crate::{
    compile::tests::policy,
    diff::Diff,
    policy::{Action, Schedule, ScheduleId},
};

/// Services `apple` (17.0.0.0/8), `part`, `halves` and `six`, all on tcp/443, and a policy behind them.
fn warnings(rules: &str) -> Vec<String> {
    let service =
        |(name, to): (&str, &str)| format!("[[service]]\nname = \"{name}\"\nto = [{to}]\nports = [\"tcp/443\"]\n");
    let services = [
        ("apple", "\"17.0.0.0/8\""),
        ("part", "\"17.5.0.0/16\""),
        ("low", "\"17.0.0.0/9\""),
        ("high", "\"17.128.0.0/9\""),
        ("six", "\"2620:149::/32\""),
    ];
    let used: String =
        services.into_iter().filter(|(name, _)| rules.contains(&format!("\"{name}\""))).map(service).collect();
    let text = format!("default = \"drop\"\n[dns]\nunnamed = \"nxdomain\"\n{used}{rules}");
    let catalogs = Catalogs::default();
    let policy = Policy::parse("p", &text, &catalogs).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    advise(&policy, &catalogs).into_iter().map(|advice| advice.message).collect()
}

/// `allow a=apple,part from` as the file has it: action, name, services and source.
fn rule(action: &str, name: &str, services: &str, from: &str) -> String {
    let list = |words: &str| words.split(',').map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let line =
        |key: &str, words: &str| if words.is_empty() { String::new() } else { format!("{key} = [{}]\n", list(words)) };
    format!("[[rule]]\nname = \"{name}\"\naction = \"{action}\"\n{}{}", line("services", services), line("from", from))
}

#[test]
fn each_kind_of_doubtful_rule_is_told() {
    const A: &str = "10.1.0.0/16";
    let cases: &[(&[[&str; 4]], &[&str])] = &[
        (&[["allow", "a", "part", ""], ["drop", "b", "apple", ""]], &[]),
        (&[["allow", "a", "apple", A], ["drop", "b", "part", ""]], &[]),
        (&[["allow", "a", "part", A], ["allow", "b", "apple", "10.1.0.0/17"]], &[]),
        (&[["allow", "a", "apple/apns", ""]], &[]),
        (
            &[["allow", "a", "apple", ""], ["drop", "b", "part", ""]],
            &["rule b never matches: all such packets are taken before, by rule a"],
        ),
        (
            &[["allow", "a", "low", ""], ["drop", "b", "high", ""], ["drop", "c", "apple", ""]],
            &["rule c never matches: all such packets are taken before, by rules a and b"],
        ),
        (
            &[
                ["allow", "a", "apple", "10.1.0.0/17"],
                ["allow", "b", "apple", "10.1.128.0/17"],
                ["drop", "c", "part", A],
            ],
            &["rule c never matches: all such packets are taken before, by rules a and b"],
        ),
        (
            &[["allow", "a", "apple", ""], ["drop", "b", "part,six", ""]],
            &["rule b never matches by part: all such packets are taken before, by rule a"],
        ),
        (
            &[["allow", "a", "apple,part", ""]],
            &["rule a never matches by part: its services before take all such packets"],
        ),
        (&[["allow", "a", "six", A]], &["rule a never matches: no packet could"]),
        (&[["allow", "a", "", ""]], &["rule a allows every destination and port"]),
        (&[["drop", "a", "", "10.9.0.0/16"]], &[]),
        (&[["allow", "a", "apple/encrypted-dns", ""]], &[]),
        (
            &[["allow", "a", "", ""], ["allow", "b", "apple/encrypted-dns", ""]],
            &[
                "rule a allows every destination and port",
                "rule a also opens apple/apns, apple/notarization, apple/facetime-imessage and apple/apple-network, which no rule names",
                "rule b never matches: all such packets are taken before, by rule a",
            ],
        ),
        (
            &[["drop", "a", "apple/private-relay", ""], ["allow", "b", "apple/facetime-imessage", ""]],
            &["rule b also opens apple/notarization, which no rule names"],
        ),
        (&[["drop", "x", "apple/notarization", ""], ["allow", "a", "apple", ""]], &[]),
    ];
    for (rules, expected) in cases {
        let text: String =
            rules.iter().map(|[action, name, services, from]| rule(action, name, services, from)).collect();
        assert_eq!(warnings(&text), *expected, "{text}");
    }
}

#[test]
fn services_that_are_nearly_everything_are_told() {
    let cases = [
        ("any", "tcp/443", Some("every destination")),
        ("any", "any", Some("every destination and port")),
        ("16.0.0.0/7", "tcp/443", Some("16.0.0.0/7")),
        ("2000::/3", "any", Some("2000::/3 on every port")),
        ("17.0.0.0/8", "any", Some("every port")),
        ("17.0.0.0/8", "tcp", None),
        ("*.example.org", "any", Some("every port of its names' addresses")),
        ("*.example.org", "tcp/443", None),
    ];
    for (to, port, width) in cases {
        let service = format!("[[service]]\nname = \"w\"\nto = [\"{to}\"]\nports = [\"{port}\"]\n");
        let expected: Vec<String> =
            width.iter().map(|width| format!("rule a allows service w, which is open to {width}")).collect();
        assert_eq!(warnings(&format!("{service}{}", rule("allow", "a", "w", ""))), expected);
    }
}

#[test]
fn what_names_open_is_told_and_is_no_warning() {
    let service =
        |name: &str, to: &str, ports: &str| format!("[[service]]\nname = \"{name}\"\nto = [{to}]\nports = [{ports}]\n");
    let text = [
        "default = \"drop\"\n".to_owned(),
        service("web", "\"*.a.org\", \"b.org\"", "\"tcp/443\", \"udp/443\""),
        service("plain", "\"b.org\"", "\"tcp/80\""),
        service("own", "\"*.c.org\", \"17.0.0.0/8\"", "\"tcp/5223\""),
        rule("allow", "a", "web,plain,own", ""),
        rule("drop", "b", "web", ""),
        rule("allow", "c", "own", ""),
    ];
    let policy = Policy::parse("p", &text.concat(), &Catalogs::default()).expect("valid");
    let told: Vec<String> =
        exposures(&policy).iter().map(|exposure| format!("{}: {exposure}", exposure.line)).collect();
    assert_eq!(
        told,
        [
            "14: rule a opens 2 names, 1 of them with an asterisk, on tcp/80, tcp/443, udp/443: shared content networks serve \
          others' sites from the same addresses, there allowed too"
        ]
    );
    assert!(!advise(&policy, &Catalogs::default()).iter().any(|advice| advice.message.contains("opens 2")));
}

#[test]
fn what_no_rule_uses_is_told() {
    let unused = "[[service]]\nname = \"spare\"\nto = [\"17.0.0.0/8\"]\n";
    assert_eq!(warnings(unused), ["no rule uses service spare"]);
    // Of a catalogue's that a proxy takes, rules need not allow all.
    let proxied = "[[proxy]]\naddress = \"10.1.0.5\"\nport = 3128\nservices = [\"apple/*\", \"corp/spare\"]\n";
    let unused = unused.replace("spare", "corp/spare");
    let text = format!(
        "default = \"drop\"\n{proxied}{unused}ports = [\"tcp/443\"]\n[[rule]]\naction = \"allow\"\nservices = [\"apple/app-store\"]\n"
    );
    let policy = Policy::parse("p", &text, &Catalogs::default()).expect("valid");
    let told = advise(&policy, &Catalogs::default());
    let told: Vec<_> = told.iter().map(|advice| &advice.message).filter(|told| told.contains("no rule uses")).collect();
    assert_eq!(told, ["no rule uses service corp/spare"]);
    let schedules = vec![Schedule { name: "lessons".into(), zone: "Europe/Berlin".into(), times: vec![0..60, 90..99] }];
    let policy = Policy { schedules, ..Policy::default() };
    let told = advise(&policy, &Catalogs::default());
    assert_eq!(told[0].message, "no rule uses schedule lessons");
}

#[test]
fn forwarded_names_are_warned_of_where_the_default_denies() {
    const NAMES: &str = "[[service]]\nname = \"web\"\nto = [\"*.example.org\"]\nports = [\"tcp/443\"]\n\
        [[rule]]\naction = \"allow\"\nservices = [\"web\"]\n";
    let addresses = NAMES.replace("*.example.org", "203.0.113.0/24");
    let cases = [
        ("default = \"drop\"\n", NAMES, true),
        ("default = \"reject\"\n[dns]\nunnamed = \"forward\"\n", NAMES, true),
        ("default = \"reject\"\n[dns]\ndenied = \"nxdomain\"\n", NAMES, true),
        ("default = \"drop\"\n[dns]\nunnamed = \"nxdomain\"\n", NAMES, false),
        ("default = \"drop\"\n[dns]\nunnamed = \"refused\"\n", NAMES, false),
        ("default = \"allow\"\n", NAMES, false),
        ("default = \"drop\"\nmonitor = true\n", NAMES, false),
        ("default = \"drop\"\n", &addresses, false),
    ];
    for (head, rules, expected) in cases {
        let policy = Policy::parse("p", &format!("{head}{rules}"), &Catalogs::default()).expect("valid");
        let told = advise(&policy, &Catalogs::default());
        let told = told.iter().any(|advice| advice.message.starts_with("names that no rule has are forwarded"));
        assert_eq!(told, expected, "{head}{rules}");
    }
}

#[test]
fn times_together_may_leave_a_rule_nothing() {
    let schedule = |from, to| {
        let times = std::iter::once(from..to).collect();
        Schedule { name: String::new(), zone: "Europe/Berlin".into(), times }
    };
    let rule = |when| Rule { when, line: 1 + when.map_or(9, |id: ScheduleId| id.0), ..Rule::new(Action::Drop) };
    let schedules = vec![schedule(0, 500), schedule(500, 10_080)];
    let mut policy = Policy { schedules, ..Policy::default() };
    policy.lan.rules = vec![rule(Some(ScheduleId(0))), rule(Some(ScheduleId(1))), rule(None)];
    let told = |policy: &Policy| advise(policy, &Catalogs::default());
    let message = "the rule never matches: all such packets are taken before, by rules line-1 and line-2";
    assert_eq!(
        told(&policy).iter().map(|advice| (advice.line, advice.message.as_str())).collect::<Vec<_>>(),
        [(Some(10), message)]
    );
    policy.schedules[1] = schedule(501, 10_080);
    assert_eq!(told(&policy), []);
}

#[test]
fn the_policies_that_come_with_the_program_get_no_false_warnings() {
    let text = include_str!("../../../policies/apple-network.toml");
    let catalogs = Catalogs::default();
    let policy = Policy::parse("p", text, &catalogs).expect("valid");
    assert_eq!(advise(&policy, &catalogs), []);
    assert_eq!(warnings(&rule("allow", "all", "apple/*", "")), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_rule_never_matches_if_its_action_makes_no_difference(mut policy in policy()) {
        policy.services.iter_mut().for_each(|service| service.names.clear());
        for (rule, line) in policy.lan.rules.iter_mut().zip(1..) {
            rule.line = line;
        }
        let told = dead::rules(&policy, &policy.lan).expect("few rules");
        let told: Vec<_> = told.iter().filter(|advice| advice.message.contains("never matches:")).map(|advice| advice.line).collect();
        let mut dead = Vec::new();
        for index in 0..policy.lan.rules.len() {
            let mut other = policy.clone();
            let rule = &mut other.lan.rules[index];
            rule.action = if rule.action == Action::Allow { Action::Drop } else { Action::Allow };
            if Diff::new(&policy, &other).expect("few rules").flows.is_empty() {
                dead.push(Some(policy.lan.rules[index].line));
            }
        }
        prop_assert_eq!(told, dead);
    }
}

#[test]
fn rules_behind_a_portal_are_for_those_who_are_admitted() {
    let portal = |services: &str| format!("[portal]\nservices = [\"{services}\"]\n");
    let apple = rule("allow", "apple", "apple", "");
    assert_eq!(warnings(&format!("{}{apple}", portal("six"))), [""; 0]);
    // What the portal opens, it opens for all.
    let told = warnings(&format!("{}{apple}", portal("apple")));
    assert_eq!(told, ["rule apple never matches: all such packets are taken before, by rule portal"]);
}
