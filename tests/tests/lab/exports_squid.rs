//! Squid with what is exported for it: what it fetches for clients, and what it asks DNS for.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{
    Lab, Plan,
    exported::{PROXIED, Squid},
    product::Enforcer,
    resolver::Resolver,
    server::Servers,
};

fn lab() -> Result<Lab> {
    Lab::planned(Plan { bridged: true, ..Plan::default() })
}

#[test]
fn squid_reaches_what_the_policy_allows_and_clients_reach_it_by_no_other_way() -> Result<()> {
    let lab = lab()?;
    let _servers = Servers::start(&lab.internet, &[443, 80], &[])?;
    let _resolver = Resolver::dnsmasq_with(
        &lab,
        "198.51.100.2",
        "host-record=www.example.org,17.253.4.5\nhost-record=www.example.net,17.253.4.5\n",
    )?;
    let _enforcer = Enforcer::start(&lab, PROXIED, "--lan br-lan --wan wan0")?;
    let squid = Squid::start(&lab, PROXIED)?;
    let fetch = |way: &str, place: &str| -> Result<bool> {
        let said = lab.client.output(&format!("curl --silent --http0.9 --max-time 4 {way} http://{place}/"))?;
        Ok(said == "hello\n")
    };
    let through = "--proxytunnel --proxy http://10.1.0.3:3128";
    for (way, place, reached) in [
        (through, "17.1.2.3:443", true),
        (through, "www.example.org:443", true),
        ("", "17.1.2.3:443", false),
        ("", "17.253.4.5:443", false),
        (through, "17.1.2.3:80", false),
        (through, "www.example.org:80", false),
        // The same address by a name that the policy does not have.
        (through, "www.example.net:443", false),
        (through, "203.0.113.9:443", false),
    ] {
        assert_eq!(fetch(way, place)?, reached, "{way} {place}: {}", squid.log());
    }
    Ok(())
}

/// The status with which it answers a client that wants a tunnel to a place.
fn status(lab: &Lab, place: &str) -> Result<u16> {
    let request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n");
    let answer = lab.client.enter(|| {
        let mut stream = TcpStream::connect(SocketAddr::from(([10, 1, 0, 3], 3128)))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    })?;
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|code| code.parse().ok());
    code.with_context(|| format!("{place}: {answer:?}"))
}

/// Requests with the status that each of them gets.
fn check(lab: &Lab, squid: &Squid, wanted: &[(&str, u16)]) -> Result<()> {
    for (place, code) in wanted {
        assert_eq!(status(lab, place)?, *code, "{place}: {}", squid.log());
    }
    Ok(())
}

const RECORDS: &str = "log-queries\nhost-record=www.example.org,17.253.4.5\nhost-record=other.example.com,17.253.4.5\n\
    host-record=never.example.com,17.1.2.3\nhost-record=local.example.com,127.0.0.1\nhost-record=www.example.net,203.0.113.9\n\
    host-record=bad.example.net,203.0.113.9\n";

/// Nothing but Squid judges here: there is no enforcer.
#[test]
fn prefixes_allow_addresses_and_deny_names_that_lead_there() -> Result<()> {
    let lab = lab()?;
    let _servers = [Servers::start(&lab.internet, &[443], &[])?, Servers::start(&lab.neighbour, &[443], &[])?];
    let _resolver = Resolver::dnsmasq_with(&lab, "198.51.100.2", RECORDS)?;
    let policy = r#"
default = "drop"
[[service]]
name = "net"
to = ["203.0.113.0/24"]
ports = ["tcp/443"]
[[service]]
name = "named"
to = ["www.example.org", "*.example.com"]
ports = ["tcp/443"]
[[service]]
name = "NAMED"
to = ["bad.example.net"]
ports = ["tcp/443"]
[[service]]
name = "never"
to = ["17.1.2.0/24"]
ports = ["tcp/443"]
[[rule]]
action = "allow"
services = ["net"]
[[rule]]
action = "drop"
services = ["never", "NAMED"]
[[rule]]
action = "allow"
services = ["named"]
"#;
    let squid = Squid::start(&lab, policy)?;
    let wanted = [
        ("203.0.113.9:443", 200),
        ("www.example.net:443", 403),
        ("www.example.org:443", 200),
        ("other.example.com:443", 200),
        ("17.1.2.3:443", 403),
        ("never.example.com:443", 403),
        // What only the proxy itself can reach.
        ("local.example.com:443", 403),
        ("127.0.0.1:443", 403),
        ("secret.tunnel.example.net:80", 403),
    ];
    check(&lab, &squid, &wanted)?;
    // No question is asked for what is denied on every line before a prefix that denies.
    let asked = fs::read_to_string(lab.path("dnsmasq-198.51.100.log"))?;
    assert!(asked.contains("never.example.com") && !asked.contains("secret.tunnel"), "{asked}");
    drop(squid);
    // Without such a prefix, for no name that is not allowed.
    let squid = Squid::start(&lab, &policy.replace("action = \"drop\"", "action = \"allow\""))?;
    check(&lab, &squid, &[("www.example.org:443", 200), ("more.secret.example.net:443", 403)])?;
    let asked = fs::read_to_string(lab.path("dnsmasq-198.51.100.log"))?;
    assert!(!asked.contains("more.secret"), "{asked}");
    Ok(())
}

#[test]
fn names_are_denied_however_they_are_written() -> Result<()> {
    let lab = lab()?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let _resolver = Resolver::dnsmasq_with(&lab, "198.51.100.2", RECORDS)?;
    let policy = r#"
default = "allow"
[[service]]
name = "bad"
to = ["bad.example.net", "*.example.com"]
[[rule]]
action = "drop"
services = ["bad"]
"#;
    let squid = Squid::start(&lab, policy)?;
    let wanted = [
        ("www.example.net:443", 200),
        ("bad.example.net:443", 403),
        ("BAD.example.net:443", 403),
        ("bad.example.net.:443", 403),
        ("other.example.com:443", 403),
        ("other.example.com.:443", 403),
        // As the warning has it: the name's address is the gateway's to judge.
        ("203.0.113.9:443", 200),
    ];
    check(&lab, &squid, &wanted)
}
