//! A client, a gateway and an internet: what may pass, what may not, and what was counted.

use std::process::ExitCode;

use anyhow::Result;
use enforcer_tests::lab::{
    Lab, probe,
    probe::Outcome::{self, Answered, Silence},
    product::Enforcer,
    root,
    server::Servers,
};

/// What is tried: description, protocol, address, port, expected.
const PROBES: &[(&str, &str, &str, u16, Outcome)] = &[
    ("push notifications", "tcp", "17.1.2.3", 5223, Answered),
    ("push notifications, IPv6", "tcp", "2620:149::5", 5223, Answered),
    ("web", "tcp", "17.253.4.5", 443, Answered),
    ("web, IPv6", "tcp", "2403:300::7", 443, Answered),
    ("web over QUIC", "udp", "17.1.2.3", 443, Answered),
    ("time", "udp", "17.253.4.5", 123, Answered),
    ("time, IPv6", "udp", "2620:149::5", 123, Answered),
    ("Apple, but not a port of the policy", "tcp", "17.1.2.3", 25, Silence),
    ("Apple, but not a port, IPv6", "tcp", "2620:149::5", 25, Silence),
    ("a port of the policy, but not Apple", "tcp", "203.0.113.9", 443, Silence),
    ("a port, but not Apple, IPv6", "tcp", "2001:db8:bad::1", 443, Silence),
    ("UDP elsewhere", "udp", "203.0.113.9", 123, Silence),
    ("UDP elsewhere, IPv6", "udp", "2001:db8:bad::1", 123, Silence),
    ("the gateway itself is never cut off", "tcp", "10.1.0.1", 22, Answered),
];

fn main() -> Result<ExitCode> {
    println!(
        "A lab of three network namespaces: client 10.1.0.2 -- gateway -- internet (17.1.2.3, 2620:149::5, 203.0.113.9 ...)"
    );
    let lab = Lab::new()?;
    let _internet = Servers::start(&lab.internet, &[25, 80, 443, 5223], &[123, 443])?;
    let _gateway = Servers::start(&lab.gateway, &[22], &[])?;
    let policy = std::fs::read_to_string(root().join("policies/apple-network.toml"))?;
    let enforcer = Enforcer::start(&lab, &policy, "--lan lan0 --wan wan0")?;
    print!(
        "The gateway runs `enforcer run --lan lan0 --wan wan0 --policy policies/apple-network.toml`:\n\n{}\n",
        enforcer.ask("status")?
    );

    let mut wrong = 0;
    println!(
        "{:<38} {:<4} {:<17} {:>5}  {:<9} {:<9}",
        "PROBE FROM THE CLIENT", "", "TO", "PORT", "EXPECTED", "HAPPENED"
    );
    for &(what, protocol, to, port, expected) in PROBES {
        let happened = match protocol {
            "tcp" => probe::tcp(&lab.client, to, port)?,
            _ => probe::udp(&lab.client, to, port, 64)?,
        };
        let mark = if happened == expected { "" } else { "  <-- WRONG" };
        wrong += u32::from(happened != expected);
        println!("{what:<38} {protocol:<4} {to:<17} {port:>5}  {expected:<9} {happened:<9}{mark}");
    }
    println!("\nCounted in the kernel (`enforcer counters`):\n\n{}", enforcer.ask("counters")?);
    enforcer.stop()?;
    println!("{} probes, {wrong} not as expected", PROBES.len());
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
