//! What is exported for firewalls and resolvers, in real ones; and what they have, imported.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use enforcer_tests::lab::{
    Lab, dns, enforcer_binary,
    exported::{ask, export},
    probe::{self, Outcome},
    resolver::Resolver,
    server::Servers,
};

const NAMES: &str = r#"
default = "drop"
[[service]]
name = "site"
to = ["www.example.org", "*.example.com"]
ports = ["tcp/443"]
[[rule]]
action = "allow"
services = ["site"]
"#;

/// The gateway's dnsmasq with exported lines, and one on the internet that knows names.
fn resolvers(lab: &Lab, lines: &str) -> Result<[Resolver; 2]> {
    let records = "host-record=www.example.org,17.1.2.3,2620:149::5\nhost-record=a.b.example.com,17.253.4.5\nhost-record=www.example.net,203.0.113.9\n";
    let above = Resolver::dnsmasq_with(lab, "198.51.100.2", records)?;
    let file = lab.file("exported.conf", lines)?;
    let more = format!("server=198.51.100.2\nconf-file={}\n", file.display());
    Ok([above, Resolver::dnsmasq_in(lab, &lab.gateway, "10.1.0.1", &more)?])
}

#[test]
fn dnsmasq_fills_the_sets_of_the_nftables_table() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let (table, _) = export(&lab, "nftables", NAMES, "--lan lan0 --wan wan0")?;
    lab.gateway.run(&format!("nft -f {}", lab.file("exported.nft", &table)?.display()))?;
    let (lines, warned) = export(&lab, "dnsmasq", NAMES, "")?;
    assert!(warned.contains("2 of its 2 lines") && warned.contains("www.example.org"), "{warned}");
    let [_above, resolver] = resolvers(&lab, &lines)?;
    let hosts = ["17.1.2.3", "2620:149::5", "17.253.4.5", "203.0.113.9"];
    let reached = || hosts.iter().map(|host| probe::tcp(&lab.client, host, 443)).collect::<Result<Vec<_>>>();
    assert_eq!(reached()?, [Outcome::Silence; 4]);
    for (name, kind) in [
        ("www.example.org", dns::A),
        ("www.example.org", dns::AAAA),
        ("a.b.example.com", dns::A),
        ("www.example.net", dns::A),
    ] {
        ask(&lab, &resolver, name, kind)?;
    }
    assert_eq!(reached()?, [Outcome::Answered, Outcome::Answered, Outcome::Answered, Outcome::Silence]);
    Ok(())
}

#[test]
fn addresses_of_a_name_that_a_service_lost_are_not_let_through() -> Result<()> {
    const OTHER: &str = "[[service]]\nname = \"other\"\nto = [\"www.example.net\"]\n[[rule]]\naction = \"allow\"\nservices = [\"other\"]\n";
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let load = |policy: &str| -> Result<String> {
        let (table, _) = export(&lab, "nftables", policy, "--lan lan0 --wan wan0")?;
        lab.gateway.run(&format!("nft -f {}", lab.file("exported.nft", &table)?.display()))?;
        Ok(export(&lab, "dnsmasq", policy, "")?.0)
    };
    let reached = || -> Result<[bool; 3]> {
        let [www, below, other] =
            ["17.1.2.3", "17.253.4.5", "203.0.113.9"].map(|host| probe::tcp(&lab.client, host, 443));
        Ok([www?, below?, other?].map(|outcome| outcome == Outcome::Answered))
    };
    let policy = format!("{NAMES}{OTHER}");
    let [above, resolver] = resolvers(&lab, &load(&policy)?)?;
    for name in ["www.example.org", "a.b.example.com", "www.example.net"] {
        ask(&lab, &resolver, name, dns::A)?;
    }
    assert_eq!(reached()?, [true; 3]);
    // Loaded over it: one service has lost a name, the other one is as it was.
    let policy = policy.replace(", \"*.example.com\"", "");
    let lines = load(&policy)?;
    drop((above, resolver));
    assert_eq!(reached()?, [false, false, true]);
    let [_above, resolver] = resolvers(&lab, &lines)?;
    ask(&lab, &resolver, "www.example.org", dns::A)?;
    ask(&lab, &resolver, "a.b.example.com", dns::A)?;
    assert_eq!(reached()?, [true, false, true]);
    // The kernel takes no other time-out for a set that is there.
    load(&format!("{policy}[names]\nceiling = 600\n"))?;
    Ok(())
}

#[test]
fn dnsmasq_fills_sets_of_ipset() -> Result<()> {
    let lab = Lab::new()?;
    let (lines, _) = export(&lab, "dnsmasq", NAMES, "--ipset")?;
    for line in lines.lines().filter_map(|line| line.strip_prefix("# ipset create")) {
        lab.gateway.run(&format!("ipset create{line}"))?;
    }
    let [_above, resolver] = resolvers(&lab, &lines)?;
    ask(&lab, &resolver, "www.example.org", dns::A)?;
    ask(&lab, &resolver, "www.example.org", dns::AAAA)?;
    let sets = lab.gateway.output("ipset list -o save")?;
    assert!(sets.contains("add n4-site 17.1.2.3 ") && sets.contains("add n6-site 2620:149::5 "), "{sets}");
    Ok(())
}

#[test]
fn the_response_policy_zone_loads_in_unbound_and_denied_names_do_not_exist() -> Result<()> {
    let policy = r#"
default = "drop"
[[service]]
name = "good"
to = ["x.wild.lab.example", "www.lab.example"]
[[service]]
name = "bad"
to = ["*.wild.lab.example", "medium.lab.example", "LONG.lab.example"]
[[rule]]
action = "allow"
services = ["good"]
[[rule]]
action = "reject"
services = ["bad"]
"#;
    let lab = Lab::new()?;
    // As long as a name may be, and too long for the zone.
    let policy = policy.replace("LONG", &format!("{}b", "a123456789.".repeat(21)));
    let (zone, warned) = export(&lab, "rpz", &policy, "")?;
    assert!(warned.contains("too long"), "{warned}");
    let file = lab.file("enforcer.rpz", &zone)?;
    let more = format!(
        " module-config: \"respip iterator\"\nrpz:\n name: enforcer.rpz\n zonefile: {}\nserver:\n",
        file.display()
    );
    let resolver = Resolver::unbound_with(&lab, "198.51.100.2", &more)?;
    let codes = |names: &[&str]| -> Result<Vec<u8>> {
        let answers = names.iter().map(|name| ask(&lab, &resolver, name, dns::A));
        answers.map(|answer| Ok(answer?[3] & 0xf)).collect()
    };
    let denied = ["a.wild.lab.example", "a.b.wild.lab.example", "medium.lab.example", "y.x.wild.lab.example"];
    assert_eq!(codes(&denied)?, [dns::rcodes::NXDOMAIN; 4]);
    assert_eq!(codes(&["x.wild.lab.example", "www.lab.example", "many.lab.example", "large.lab.example"])?, [0; 4]);
    Ok(())
}

#[test]
fn sets_of_nftables_become_a_catalogue_that_policies_name() -> Result<()> {
    let lab = Lab::new()?;
    let sets = "table inet t {\n set web { type ipv4_addr . inet_proto . inet_service; flags interval; elements = { 17.0.0.0/8 . tcp . 443, 192.0.2.1-192.0.2.6 . udp . 3478-3497 }\n }\n\
                set bare { type ipv4_addr . inet_service; elements = { 203.0.113.9 . 53 }\n }\n\
                set six { type ipv6_addr; flags timeout; elements = { 2620:149::5 timeout 60s }\n }\n}\n";
    lab.gateway.run(&format!("nft -f {}", lab.file("sets.nft", sets)?.display()))?;
    let listing = lab.gateway.output("nft -j list ruleset")?;
    fs::create_dir_all(lab.path("catalog"))?;
    let output = Command::new(enforcer_binary()?)
        .args(["import", "nftables", "--ports", "tcp/5223", "--protocol", "udp", "--date", "2026-11-28", "--output"])
        .arg(lab.path("catalog/imported.toml"))
        .arg(lab.file("sets.json", &listing)?)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let policy = "default = \"drop\"\n[[rule]]\naction = \"allow\"\nservices = [\"imported/*\"]\n";
    let policy = lab.file("importing.toml", policy)?;
    for (to, port, code) in [
        ("17.9.9.9", "tcp/443", 0),
        ("192.0.2.6", "udp/3480", 0),
        ("2620:149::5", "tcp/5223", 0),
        ("203.0.113.9", "udp/53", 0),
        ("203.0.113.9", "tcp/53", 3),
        ("192.0.2.7", "udp/3480", 3),
        ("17.9.9.9", "tcp/5223", 3),
    ] {
        let mut explain = Command::new(enforcer_binary()?);
        let status =
            explain.args(["explain", "--policy"]).arg(&policy).args([to, port]).stdout(Stdio::null()).status()?;
        assert_eq!(status.code(), Some(code), "{to} {port}");
    }
    Ok(())
}

#[test]
fn sets_that_do_not_say_where_to_are_no_catalogue() -> Result<()> {
    let lab = Lab::new()?;
    let web = "set web { type ipv4_addr; elements = { 192.0.2.1 }\n }\n";
    let pairs =
        "set pairs { type ipv4_addr . ipv4_addr . inet_service; elements = { 10.1.0.2 . 192.0.2.1 . 443 }\n }\n";
    for (tables, wanted) in [
        (format!("table inet a {{\n {pairs}}}\n"), "set inet a pairs: its elements have 2 addresses"),
        (
            format!("table inet a {{\n {web}}}\ntable ip b {{\n {web}}}\n"),
            "set ip b web: set inet a web has the same name",
        ),
        (
            "table inet a {\n set bare { type ipv4_addr . inet_service; elements = { 192.0.2.1 . 53 }\n }\n}\n".into(),
            "--protocol tcp",
        ),
    ] {
        let file = lab.file("sets.nft", &format!("flush ruleset\n{tables}"))?;
        lab.gateway.run(&format!("nft -f {}", file.display()))?;
        let listing = lab.file("sets.json", &lab.gateway.output("nft -j list ruleset")?)?;
        let output = Command::new(enforcer_binary()?)
            .args(["import", "nftables", "--ports", "tcp/443"])
            .arg(listing)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty() && said.contains(wanted), "{said}");
    }
    Ok(())
}
