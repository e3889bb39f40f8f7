//! The ready policies, each by a table of what its clients reach.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{
    Lab, Plan, awake,
    dns::A,
    names, probe,
    probe::Outcome::{self, Answered, Refused, Silence},
    resolver::Resolver,
    root,
    server::Servers,
};

/// Addresses of the internet beside the lab's own: push notifications, and notarization.
const MORE: [&str; 3] = ["17.249.1.1", "2620:149:a44::5", "17.248.130.1"];

/// Client's address, destination as an address or a name, protocol and port, and what the client sees.
type Row = (&'static str, &'static str, &'static str, Outcome);

const CLIENT: &str = "10.1.0.2";
const CLIENT6: &str = "fd00:1::2";
/// On another prefix behind the same LAN.
const STRANGER: &str = "10.3.0.2";
/// On a prefix of clients that the portal is to admit.
const GUEST: &str = "10.2.0.2";

/// Puts a ready policy in force and compares every row of its table.
fn holds(policy: &str, table: &[Row]) -> Result<()> {
    let lab = Lab::planned(Plan::default())?;
    for address in MORE {
        lab.internet.run(&format!("ip addr add {address} dev lo"))?;
    }
    // Somebody behind a router of the LAN.
    for (address, net) in [(STRANGER, "10.3.0.0/24"), (GUEST, "10.2.0.0/24")] {
        lab.client.run(&format!("ip addr add {address}/32 dev lo"))?;
        lab.gateway.run(&format!("ip route add {net} via 10.1.0.2"))?;
        lab.internet.run(&format!("ip route add {net} via 198.51.100.1"))?;
    }
    let _servers = Servers::start(&lab.internet, &[22, 80, 443, 2197, 5223, 8443], &[123, 443, 3478])?;
    let path = root().join("policies").join(policy);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    // Each name has an address of a content network.
    let is_name = |to: &str| to.parse::<IpAddr>().is_err();
    let names: BTreeSet<&str> = table.iter().map(|(_, to, ..)| *to).filter(|to| is_name(to)).collect();
    let addresses: BTreeMap<&str, String> =
        names.into_iter().zip((40..).map(|host| format!("203.0.113.{host}"))).collect();
    let records: String = addresses.iter().map(|(name, address)| format!("host-record={name},{address}\n")).collect();
    lab.internet.run("ip route add local 203.0.113.0/24 dev lo")?;
    let _resolver = Resolver::dnsmasq_with(&lab, "17.1.2.3", &records)?;
    let enforcer = names::start(&lab, &text)?;
    let _awake = awake(&lab.client, "eth0")?;
    let mut wrong = Vec::new();
    for &(from, to, port, expected) in table {
        let (protocol, number) = port.split_once('/').context("protocol and port")?;
        let number = number.parse()?;
        let address = addresses.get(to).map_or(to, String::as_str);
        if is_name(to) {
            assert_eq!(names::ask(&lab, to, A)?, 0, "{to}");
        }
        let seen = match protocol {
            "tcp" => probe::tcp_from(&lab.client, from, address, number)?,
            "udp" => probe::echo(&lab.client, from, address, number, 48)?,
            other => anyhow::bail!("no probe for {other}"),
        };
        if seen != expected {
            wrong.push(format!("{from} to {to} {port}: {seen}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{policy}:\n{}", wrong.join("\n"));
    enforcer.stop()
}

#[test]
fn everything_apple() -> Result<()> {
    holds(
        "everything-apple.toml",
        &[
            (CLIENT, "17.249.1.1", "tcp/5223", Answered),
            (CLIENT, "17.1.2.3", "tcp/443", Answered),
            (CLIENT, "17.1.2.3", "tcp/80", Answered),
            (CLIENT, "17.253.4.5", "udp/123", Answered),
            (CLIENT, "17.1.2.3", "udp/3478", Answered),
            (CLIENT6, "2620:149::5", "tcp/443", Answered),
            (CLIENT6, "2620:149:a44::5", "tcp/2197", Answered),
            (STRANGER, "17.1.2.3", "tcp/443", Answered),
            (CLIENT, "17.1.2.3", "tcp/8443", Answered),
            (CLIENT, "203.0.113.9", "tcp/443", Refused),
            (CLIENT, "203.0.113.9", "udp/443", Refused),
            (CLIENT6, "2001:db8:bad::1", "tcp/443", Refused),
            (CLIENT, "albert.apple.com", "tcp/443", Answered),
            (CLIENT, "updates.cdn-apple.com", "tcp/443", Answered),
            (CLIENT, "ocsp.digicert.com", "tcp/80", Answered),
            (CLIENT, "is1-ssl.mzstatic.com", "tcp/443", Answered),
            (CLIENT, "updates.cdn-apple.com", "tcp/22", Refused),
            (CLIENT, "www.example.org", "tcp/443", Refused),
        ],
    )
}

#[test]
fn apples_own_networks() -> Result<()> {
    holds(
        "apple-network.toml",
        &[
            (CLIENT, "17.1.2.3", "tcp/443", Answered),
            (CLIENT, "17.1.2.3", "tcp/5223", Answered),
            (CLIENT, "17.253.4.5", "udp/123", Answered),
            (CLIENT, "17.1.2.3", "udp/443", Answered),
            (CLIENT6, "2620:149::5", "tcp/443", Answered),
            (CLIENT, "17.1.2.3", "tcp/22", Answered),
            (CLIENT, "17.1.2.3", "tcp/8443", Silence),
            (CLIENT, "203.0.113.9", "tcp/443", Silence),
            (CLIENT6, "2001:db8:bad::1", "tcp/443", Silence),
            (CLIENT, "updates.cdn-apple.com", "tcp/443", Silence),
        ],
    )
}

#[test]
fn the_least_for_managed_devices() -> Result<()> {
    holds(
        "mdm-minimum.toml",
        &[
            (CLIENT, "17.249.1.1", "tcp/5223", Answered),
            (CLIENT, "17.249.1.1", "tcp/443", Answered),
            (CLIENT, "17.249.1.1", "tcp/2197", Answered),
            (CLIENT6, "2620:149:a44::5", "tcp/5223", Answered),
            (STRANGER, "17.249.1.1", "tcp/5223", Answered),
            (CLIENT, "17.249.1.1", "tcp/22", Refused),
            (CLIENT, "17.1.2.3", "tcp/443", Refused),
            (CLIENT, "17.1.2.3", "udp/443", Refused),
            (CLIENT, "203.0.113.9", "tcp/443", Refused),
            (CLIENT6, "2620:149::5", "tcp/443", Refused),
            (CLIENT, "albert.apple.com", "tcp/443", Answered),
            (CLIENT, "updates.cdn-apple.com", "tcp/443", Answered),
            (CLIENT, "ocsp.digicert.com", "tcp/80", Answered),
            (CLIENT, "is1-ssl.mzstatic.com", "tcp/443", Refused),
            (CLIENT, "www.example.org", "tcp/443", Refused),
        ],
    )
}

#[test]
fn a_school() -> Result<()> {
    holds(
        "school.toml",
        &[
            (CLIENT, "17.249.1.1", "tcp/5223", Answered),
            (CLIENT6, "2620:149:a44::5", "tcp/443", Answered),
            (CLIENT, "17.248.130.1", "tcp/443", Answered),
            (CLIENT, "17.1.2.3", "tcp/443", Refused),
            (CLIENT, "203.0.113.9", "tcp/443", Refused),
            // Neither a pupil's nor a teacher's address.
            (STRANGER, "17.249.1.1", "tcp/5223", Refused),
            (CLIENT, "albert.apple.com", "tcp/443", Answered),
            (CLIENT, "updates.cdn-apple.com", "tcp/443", Answered),
            (CLIENT, "ocsp.digicert.com", "tcp/80", Answered),
            (STRANGER, "updates.cdn-apple.com", "tcp/443", Refused),
            (CLIENT, "www.example.org", "tcp/443", Refused),
        ],
    )
}

#[test]
fn a_kiosk() -> Result<()> {
    holds(
        "kiosk.toml",
        &[
            (CLIENT, "203.0.113.9", "tcp/443", Answered),
            (CLIENT, "17.249.1.1", "tcp/5223", Answered),
            (CLIENT6, "2620:149:a44::5", "tcp/5223", Answered),
            (CLIENT, "203.0.113.9", "tcp/80", Silence),
            (CLIENT, "17.1.2.3", "tcp/443", Silence),
            (CLIENT6, "2001:db8:bad::1", "tcp/443", Silence),
            (STRANGER, "203.0.113.9", "tcp/443", Silence),
            (STRANGER, "17.249.1.1", "tcp/5223", Silence),
            (CLIENT, "albert.apple.com", "tcp/443", Answered),
            (CLIENT, "updates.cdn-apple.com", "tcp/443", Answered),
            (CLIENT, "ocsp.digicert.com", "tcp/80", Answered),
            (CLIENT, "is1-ssl.mzstatic.com", "tcp/443", Silence),
            (STRANGER, "updates.cdn-apple.com", "tcp/443", Silence),
        ],
    )
}

#[test]
fn apple_without_consumer_services() -> Result<()> {
    holds(
        "no-consumer.toml",
        &[
            (CLIENT, "17.249.1.1", "tcp/5223", Answered),
            (CLIENT, "17.248.130.1", "tcp/443", Answered),
            (CLIENT6, "2620:149:a44::5", "tcp/443", Answered),
            (STRANGER, "17.249.1.1", "tcp/5223", Answered),
            (CLIENT, "17.1.2.3", "udp/3478", Refused),
            (CLIENT, "17.1.2.3", "tcp/443", Refused),
            (CLIENT, "203.0.113.9", "tcp/443", Refused),
            (CLIENT6, "2620:149::5", "tcp/443", Refused),
            (CLIENT, "albert.apple.com", "tcp/443", Answered),
            (CLIENT, "updates.cdn-apple.com", "tcp/443", Answered),
            (CLIENT, "ocsp.digicert.com", "tcp/80", Answered),
            (CLIENT, "is1-ssl.mzstatic.com", "tcp/443", Answered),
            (CLIENT, "www.example.org", "tcp/443", Refused),
        ],
    )
}

#[test]
fn guests_reach_the_portal_alone() -> Result<()> {
    holds(
        "guests.toml",
        &[
            (GUEST, "captive.apple.com", "tcp/80", Answered),
            (GUEST, "captive.apple.com", "tcp/5223", Refused),
            (GUEST, "203.0.113.9", "tcp/443", Answered),
            (GUEST, "203.0.113.9", "tcp/8443", Refused),
            (GUEST, "17.249.1.1", "tcp/5223", Refused),
            (CLIENT, "17.249.1.1", "tcp/5223", Answered),
            (CLIENT, "203.0.113.9", "tcp/8443", Silence),
        ],
    )
}

#[test]
fn monitoring_denies_nothing() -> Result<()> {
    holds(
        "monitor-only.toml",
        &[
            (CLIENT, "17.1.2.3", "tcp/443", Answered),
            (CLIENT, "17.1.2.3", "tcp/8443", Answered),
            (CLIENT, "203.0.113.9", "tcp/443", Answered),
            (CLIENT, "203.0.113.9", "udp/443", Answered),
            (CLIENT6, "2001:db8:bad::1", "tcp/22", Answered),
            (STRANGER, "203.0.113.9", "tcp/443", Answered),
        ],
    )
}

#[test]
fn every_ready_policy_has_a_table() -> Result<()> {
    let own = include_str!("policies.rs");
    let mut count = 0;
    for entry in fs::read_dir(root().join("policies"))? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        if name.ends_with(".toml") {
            assert!(own.contains(&format!("\"{name}\",\n        &[")), "{name} has no table here");
            count += 1;
        }
    }
    assert_eq!(count, 8);
    Ok(())
}
