//! Mistakes are told where they are; whatever is printed parses to the same.

use proptest::prelude::*;

use super::*;
use crate::catalog::Catalogs;

const SERVICE: &str =
    "default = \"drop\"\n[[service]]\nname = \"push\"\nto = [\"17.0.0.0/8\"]\nports = [\"tcp/443\"]\n";

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
        ("[[service]]\nname = \"x\"\nto = [\"www.apple.com\"]", 8, 7, "is a name", "prefix"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"tcp/70000\"]", 9, 10, "no valid port", "0 to 65535"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"tcp/+80\"]", 9, 10, "no valid port", "0 to 65535"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"tcp/500-100\"]", 9, 10, "empty range", "tcp/100-500"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"tpc/443\"]", 9, 10, "not a port", "tcp/443"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"icmp/300\"]", 9, 10, "no valid type", "0 to 255"),
        ("[[service]]\nname = \"x\"\nto = [\"any\"]\nports = [\"proto/6\"]", 9, 10, "word of its own", "\"tcp\""),
        ("[router]\n[[router.rule]]\naction = \"drop\"\nfrom = [\"any\"]", 9, 1, "unknown key \"from\"", "services"),
        ("[inbound]\ndefault = \"allow\"", 6, 1, "inbound default", "leave"),
        ("[inbound]\ndefault = \"reject\"", 7, 11, "not an action", "\"allow\" or \"drop\""),
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
fn rules_name_services_of_catalogues_and_what_is_no_address_is_noted() {
    let text = "default = \"drop\"\n[[rule]]\naction = \"allow\"\nservices = [\"apple/apns\", \"apple/app-store\", \"tag:mac\", \"apple/facetime-imessage\"]\n";
    let policy = Policy::parse("p", text, &Catalogs::default()).expect("valid");
    let services: Vec<_> = policy.services.iter().map(|s| (s.name.as_str(), s.to.len(), s.ports.len())).collect();
    let wanted = [("apple/apns", 9, 4), ("apple/notarization", 3, 1), ("apple/facetime-imessage", 1, 6)];
    assert_eq!(services, wanted);
    assert_eq!(policy.lan.rules[0].services.as_ref().map(Vec::len), Some(3));
    assert_eq!(policy.unresolved.keys().collect::<Vec<_>>(), ["apple/apns", "apple/app-store"]);
    let again = Policy::parse("p", &policy.to_string(), &Catalogs::default()).expect("valid");
    assert_eq!(again.services, policy.services);
}

#[test]
fn a_rule_whose_services_have_names_alone_matches_nothing_not_everything() {
    let text = "default = \"drop\"\n[[rule]]\naction = \"allow\"\nservices = [\"apple/icloud\"]\n";
    let policy = Policy::parse("p", text, &Catalogs::default()).expect("valid");
    assert_eq!(policy.lan.rules[0].services, Some(Vec::new()));
    assert!(Policy::parse("p", &policy.to_string(), &Catalogs::default()).expect("valid").lan.rules.is_empty());
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
        "icmp",
        "icmp/3/4",
        "icmpv6/128",
        "proto/47",
        "any",
    ]);
    let service = (prop::collection::vec(prop_oneof![net, net6], 1..5), prop::collection::vec(port, 1..4));
    let rule = (prop::sample::select(vec!["allow", "drop", "reject"]), prop::option::of(0..3_usize), any::<bool>());
    (prop::collection::vec(service, 3), prop::collection::vec(rule, 0..5)).prop_map(|(services, rules)| {
        let mut text = String::from("default = \"reject\"\nsources = \"any\"\nfragments = \"allow\"\n");
        for (index, (to, ports)) in services.iter().enumerate() {
            text += &format!("[[service]]\nname = \"s{index}\"\nto = {to:?}\nports = {ports:?}\n");
        }
        for (action, service, from) in rules {
            text += &format!("[[rule]]\naction = \"{action}\"\n");
            if let Some(service) = service {
                text += &format!("services = [\"s{service}\"]\n");
            }
            if from {
                text += "from = [\"10.0.0.0/8\", \"fd00::1\"]\n";
            }
        }
        text
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_policy(text in policy_text()) {
        let policy = Policy::parse("p", &text, &Catalogs::default()).expect("valid");
        let printed = policy.to_string();
        let again = Policy::parse("p", &printed, &Catalogs::default()).unwrap_or_else(|error| panic!("{printed}\n{error}"));
        prop_assert_eq!(again.to_string(), printed);
        prop_assert_eq!(&again.services, &policy.services);
        for (one, other) in again.lan.rules.iter().zip(&policy.lan.rules) {
            prop_assert_eq!((one.action, &one.services, &one.from), (other.action, &other.services, &other.from));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        let _ = Policy::parse("p", &text, &Catalogs::default()).map_err(|error| error.to_string());
    }

    #[test]
    fn no_damaged_policy_makes_the_parser_panic(text in policy_text(), cut in any::<prop::sample::Index>(), junk in "\\PC{0,4}") {
        let mut at = cut.index(text.len());
        while !text.is_char_boundary(at) { at -= 1; }
        let damaged = format!("{}{junk}{}", &text[..at], &text[(at + 1).min(text.len())..]);
        let _ = Policy::parse("p", &damaged, &Catalogs::default()).map_err(|error| error.to_string());
    }
}
