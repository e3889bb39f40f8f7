//! Questions that a policy denies, by the product's own DNS server and on the way to real addresses.

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::lab::{
    Lab, awake,
    dns::{
        self, A, AAAA, HTTPS, PATIENCE,
        rcodes::{NXDOMAIN, REFUSED},
    },
    forwarder::SERVER,
    names::{known, wait},
    probe::{self, Outcome::*},
    product::Enforcer,
    resolver::Resolver,
    server::Servers,
};
use serde_json::Value;

const NOERROR: u8 = 0;

fn start(lab: &Lab, policy: &str) -> Result<Enforcer> {
    let dns = format!("--dns-listen {SERVER} --dns-listen [fd00:1::1]:53 --dns-upstream 17.1.2.3:53");
    Enforcer::start(lab, policy, &format!("--lan lan0 --wan wan0 {dns}"))
}

/// A client's question by UDP and TCP, which are answered alike; the answer.
fn ask(lab: &Lab, server: &str, name: &str, kind: u16) -> Result<Vec<u8>> {
    let query = dns::query(name, kind);
    let server = server.parse()?;
    let by_udp = lab.client.enter(|| dns::ask_udp(server, &query, PATIENCE))?.context("no answer")?;
    let by_tcp = lab.client.enter(|| dns::ask_tcp(server, &query, PATIENCE))?;
    ensure!(dns::rcode(&by_udp) == dns::rcode(&by_tcp) && by_udp[7] == by_tcp[7], "{name}: UDP and TCP differ");
    Ok(by_udp)
}

/// The response code of a client that asks by IPv4.
fn rcode(lab: &Lab, name: &str, kind: u16) -> Result<u8> {
    Ok(dns::rcode(&ask(lab, "10.1.0.1:53", name, kind)?))
}

fn status(enforcer: &Enforcer) -> Result<Value> {
    Ok(serde_json::from_str(&enforcer.ask("status --json")?)?)
}

#[test]
fn a_denied_name_is_answered_here_and_what_is_allowed_is_learned() -> Result<()> {
    const POLICY: &str = r#"
default = "drop"
[dns]
denied = "nxdomain"
unnamed = "refused"
[[service]]
name = "wild"
to = ["*.wild.lab.example"]
ports = ["tcp/443"]
[[service]]
name = "bad"
to = ["bad.wild.lab.example", "service.lab.example"]
ports = ["tcp/443"]
[[service]]
name = "watched"
to = ["edge.cdn.example"]
ports = ["tcp/443"]
[[rule]]
action = "reject"
services = ["bad"]
from = ["10.1.0.0/24"]
[[rule]]
action = "drop"
services = ["watched"]
monitor = true
[[rule]]
action = "allow"
services = ["wild", "bad"]
"#;
    let lab = Lab::new()?;
    let _resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    lab.internet.run("ip addr add 203.0.113.50 dev lo")?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = start(&lab, POLICY)?;
    for kind in [A, AAAA, HTTPS, 64, 65_280] {
        let answer = ask(&lab, "10.1.0.1:53", "bad.wild.lab.example", kind)?;
        // No such name, no answer, and an SOA record by which it is kept.
        assert_eq!((dns::rcode(&answer), answer[7], answer[9]), (NXDOMAIN, 0, 1), "type {kind}");
        assert_eq!(rcode(&lab, "service.lab.example", kind)?, NXDOMAIN, "type {kind}");
        assert_eq!(rcode(&lab, "www.lab.example", kind)?, REFUSED, "type {kind}");
    }
    // To a client of another prefix it is there.
    let elsewhere = ask(&lab, "[fd00:1::1]:53", "bad.wild.lab.example", A)?;
    assert_eq!((dns::rcode(&elsewhere), elsewhere[7]), (NOERROR, 1));
    assert_eq!(rcode(&lab, "1.0.1.10.in-addr.arpa", 12)?, REFUSED, "no rule speaks of it");
    assert_eq!(rcode(&lab, "edge.cdn.example", A)?, NOERROR, "only watched");
    assert_eq!(rcode(&lab, "good.wild.lab.example", A)?, NOERROR);
    assert!(known(&enforcer, "")?.contains(&"good.wild.lab.example 203.0.113.50 asked live".to_owned()));
    let queries = &status(&enforcer)?["names"]["queries"];
    assert_eq!((&queries["nxdomain"], &queries["refused"], &queries["zero"]), (&20.into(), &12.into(), &0.into()));
    enforcer.stop()
}

#[test]
fn a_name_is_denied_while_its_rules_schedule_applies() -> Result<()> {
    let policy = |times: &str| {
        format!(
            "default = \"drop\"\n[dns]\ndenied = \"zero\"\n[[schedule]]\nname = \"now\"\nzone = \"UTC\"\ntimes = [\"{times}\"]\n\
             [[service]]\nname = \"web\"\nto = [\"www.lab.example\"]\nports = [\"tcp/443\"]\n\
             [[rule]]\naction = \"drop\"\nservices = [\"web\"]\nwhen = \"now\"\n[[rule]]\naction = \"allow\"\nservices = [\"web\"]\n"
        )
    };
    let lab = Lab::new()?;
    let _resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    // Half of the week that is now, and the other.
    let day = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() / 86_400 % 7;
    let days = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
    let from = |day: u64| [0, 1, 2].map(|more| days[((day + more) % 7) as usize]).join(",");
    for (times, addresses) in [(from(day), "0.0.0.0"), (from(day + 3), "203.0.113.40")] {
        let enforcer = start(&lab, &policy(&times))?;
        let answer = ask(&lab, "10.1.0.1:53", "www.lab.example", A)?;
        assert!(answer.ends_with(&addresses.parse::<std::net::Ipv4Addr>()?.octets()), "{times}: {answer:?}");
        enforcer.stop()?;
    }
    Ok(())
}

#[test]
fn private_relay_is_denied_by_name_and_address_and_the_rest_of_apple_is_not() -> Result<()> {
    const POLICY: &str = r#"
default = "drop"
[dns]
denied = "nxdomain"
[[rule]]
name = "no-relay"
action = "reject"
services = ["apple/private-relay"]
[[rule]]
name = "apple"
action = "allow"
services = ["apple/*"]
"#;
    const RELAY: [&str; 3] = ["17.253.4.5", "2403:300::7", "203.0.113.9"];
    let lab = Lab::new()?;
    let more = "host-record=mask.icloud.com,17.253.4.5,2403:300::7\nhost-record=mask-h2.icloud.com,203.0.113.9\n\
                host-record=www.icloud.com,203.0.113.60\n";
    let _resolver = Resolver::dnsmasq_with(&lab, "17.1.2.3", more)?;
    lab.internet.run("ip addr add 203.0.113.60 dev lo")?;
    let _servers = Servers::start(&lab.internet, &[443, 5223], &[443])?;
    let enforcer = start(&lab, POLICY)?;
    let _awake = awake(&lab.client, "eth0")?;
    for name in ["mask.icloud.com", "mask-h2.icloud.com"] {
        for kind in [A, AAAA, HTTPS] {
            assert_eq!(rcode(&lab, name, kind)?, NXDOMAIN, "{name}, type {kind}");
        }
    }
    // Though no client hears of them, their addresses are known, and denied before all of Apple's network is allowed.
    wait("the relay's addresses", || {
        let known = known(&enforcer, "")?;
        Ok(RELAY.iter().all(|address| known.iter().any(|line| line.ends_with(&format!(" {address} resolved live")))))
    })?;
    for address in RELAY {
        assert_eq!(probe::tcp(&lab.client, address, 443)?, Refused, "{address}");
        assert_eq!(probe::udp(&lab.client, address, 443, 48)?, Refused, "{address}");
    }
    assert_eq!(probe::tcp(&lab.client, "17.253.4.5", 5223)?, Answered, "another port");
    for address in ["17.1.2.3", "2620:149::5"] {
        assert_eq!(probe::tcp(&lab.client, address, 443)?, Answered, "{address}");
        assert_eq!(probe::udp(&lab.client, address, 443, 48)?, Answered, "{address}");
    }
    assert_eq!(rcode(&lab, "www.icloud.com", A)?, NOERROR);
    assert_eq!(probe::tcp(&lab.client, "203.0.113.60", 443)?, Answered);
    let counters = enforcer.counters()?;
    assert!(counters["no-relay/apple/private-relay"] >= 6, "{counters:?}");
    enforcer.stop()
}

#[test]
fn only_the_gateway_is_asked_where_dns_elsewhere_is_denied() -> Result<()> {
    const POLICY: &str = r#"
default = "allow"
[dns]
denied = "nxdomain"
[[rule]]
name = "no-dns-elsewhere"
action = "reject"
services = ["tag:dns-elsewhere"]
"#;
    let lab = Lab::new()?;
    let more = "host-record=mozilla.cloudflare-dns.com,203.0.113.9\nhost-record=use-application-dns.net,203.0.113.61\n";
    let _resolver = Resolver::dnsmasq_with(&lab, "17.1.2.3", more)?;
    for address in ["9.9.9.9", "2620:fe::fe"] {
        lab.internet.run(&format!("ip addr add {address} dev lo"))?;
    }
    let _servers = Servers::start(&lab.internet, &[443, 853], &[853])?;
    let enforcer = start(&lab, POLICY)?;
    let _awake = awake(&lab.client, "eth0")?;
    for name in ["use-application-dns.net", "dns.google", "any.cloudflare-dns.com", "_dns.resolver.arpa"] {
        assert_eq!(rcode(&lab, name, A)?, NXDOMAIN, "{name}");
    }
    assert_eq!(rcode(&lab, "www.lab.example", A)?, NOERROR);
    // Another server by its port; a known one by HTTPS, by its address or its name's.
    for (address, port) in [("17.1.2.3", 53), ("203.0.113.9", 853), ("9.9.9.9", 443), ("2620:fe::fe", 443)] {
        assert_eq!(probe::tcp(&lab.client, address, port)?, Refused, "{address} {port}");
    }
    for (address, port) in [("203.0.113.9", 853), ("17.1.2.3", 53)] {
        assert_eq!(probe::udp(&lab.client, address, port, 48)?, Refused, "{address} {port}");
    }
    wait("the resolver's address", || Ok(known(&enforcer, "")?.iter().any(|line| line.contains(" 203.0.113.9 "))))?;
    assert_eq!(probe::tcp(&lab.client, "203.0.113.9", 443)?, Refused);
    assert_eq!(probe::tcp(&lab.client, "17.253.4.5", 443)?, Answered);
    enforcer.stop()
}
