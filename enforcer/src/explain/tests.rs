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
        let portal = "[portal]\nfrom = [\"10.1.0.0/16\"]\nservices = [\"login\"]\n[[service]]\nname = \"login\"\nto = [\"203.0.113.9\"]\n";
        let text = format!("{POLICY}{portal}");
        let policy = Policy::parse("p", &text, &Catalogs::default()).expect("valid");
        let image = compile(&policy, &Limits::default(), 1).expect("small");
        let (from, to) = (Some(from.parse().expect("an address")), to.parse().expect("an address"));
        let question = Question { router: false, admitted, from, to, port: words::port("tcp/5223").expect("a port") };
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
    assert_eq!(ask("2026-11-23T12:00:00Z"), "rule line-6 (line 6) allows every destination and port, while lessons");
    assert!(ask("2026-11-24T12:00:00Z").contains("the default is drop"));
}
