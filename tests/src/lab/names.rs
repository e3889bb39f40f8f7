//! The product as the LAN's DNS server, beside a real resolver with many names.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    Lab,
    dns::{self, PATIENCE},
    forwarder::SERVER,
    product::Enforcer,
    resolver::Resolver,
};

/// A policy of names.
pub const POLICY: &str = r#"
default = "drop"

[[service]]
name = "web"
to = ["*.fresh.lab.example", "*.wild.lab.example", "192.0.2.0/24"]
ports = ["tcp/443", "tcp/5223"]

[[service]]
name = "store"
to = ["www.lab.example"]
ports = ["tcp/443"]

[[rule]]
name = "names"
action = "allow"
services = ["web", "store"]
"#;

/// Times that a test can wait for.
pub const SHORT: &str = "\n[names]\nfloor = 1\nceiling = 1\ngrace = 1\nidle = 8\n";

/// Names with addresses of their own.
pub const FRESH: u32 = 1000;

/// A resolver with many names, whose addresses are all the internet's.
pub fn resolver(lab: &Lab) -> Result<Resolver> {
    let mut more = String::new();
    for number in 1..=FRESH {
        let (v4, v6) = addresses(number);
        writeln!(more, "host-record=n{number}.fresh.lab.example,{v4},{v6}")?;
    }
    // Names of whoever likes, with addresses of the gateway's LANs and of networks behind it.
    more += "address=/rebound.wild.lab.example/192.168.7.7\naddress=/rebound.wild.lab.example/fd00:7::7\n";
    for local in
        ["203.0.116.0/22", "203.0.113.0/24", "192.168.7.0/24", "2001:db8:cd::/64", "2001:db8::/64", "fd00:7::/64"]
    {
        lab.internet.run(&format!("ip route add local {local} dev lo"))?;
    }
    lab.gateway.run("ip route add 192.168.7.0/24 via 198.51.100.2")?;
    Resolver::dnsmasq_with(lab, "17.1.2.3", &more)
}

/// A fresh name's addresses, by its number.
pub fn addresses(number: u32) -> (String, String) {
    (format!("203.0.{}.{}", 116 + number / 256, number % 256), format!("2001:db8:cd::{number:x}"))
}

/// The product with a policy, as the DNS server of its clients.
pub fn start(lab: &Lab, policy: &str) -> Result<Enforcer> {
    let dns = format!("--dns-listen {SERVER} --dns-upstream 17.1.2.3:53");
    Enforcer::start(lab, policy, &format!("--lan lan0 --wan wan0 {dns}"))
}

/// A client's question; its response code.
pub fn ask(lab: &Lab, name: &str, kind: u16) -> Result<u8> {
    let query = dns::query(name, kind);
    let answer = lab.client.enter(|| dns::ask_udp(SERVER, &query, PATIENCE))?;
    Ok(dns::rcode(&answer.context("no answer")?))
}

/// Names, addresses and how they are known, of a pattern's names.
pub fn known(enforcer: &Enforcer, pattern: &str) -> Result<Vec<String>> {
    let json: Value = serde_json::from_str(&enforcer.ask(&format!("names --json {pattern}"))?)?;
    let text = |entry: &Value| {
        let of = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let left = if entry["seconds_left"].is_null() { "draining" } else { "live" };
        format!("{} {} {} {left}", of("name"), of("address"), of("how"))
    };
    Ok(json["names"].as_array().context("no names")?.iter().map(text).collect())
}

/// Waits until a condition holds.
pub fn wait(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        ensure!(start.elapsed() < Duration::from_secs(30), "{what}: not in time");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
