//! Which clients the DNS server serves: those of LANs and the gateway itself, on every address.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use enforcer_tests::lab::{
    Lab, Namespace, Plan,
    dns::{self, A, PATIENCE},
    names::wait,
    product::Enforcer,
    resolver::Resolver,
};

const EVERYWHERE: &str = "--wan wan0 --dns-listen 0.0.0.0:53 --dns-listen [::]:53 --dns-upstream 17.1.2.3:53";

/// Whether somebody is answered, by UDP and by TCP, on an address of the gateway's.
fn is_served(who: &Namespace, address: &str, patience: Duration) -> Result<[bool; 2]> {
    let server = if address.contains(':') { format!("[{address}]:53") } else { format!("{address}:53") }.parse()?;
    let query = dns::query("www.lab.example", A);
    who.enter(|| {
        let by_udp = dns::ask_udp(server, &query, patience)?.is_some();
        Ok([by_udp, dns::ask_tcp(server, &query, patience).is_ok()])
    })
}

#[test]
fn only_lans_and_the_gateway_are_served_dns() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    let enforcer = Enforcer::start(&lab, "default = \"drop\"\n", &format!("--lan lan0 {EVERYWHERE}"))?;
    let own = ["10.1.0.1", "fd00:1::1", "198.51.100.1", "2001:db8:ffff::1"];
    for address in own {
        assert_eq!(is_served(&lab.client, address, PATIENCE)?, [true; 2], "the client, {address}");
        assert_eq!(is_served(&lab.internet, address, Duration::from_millis(500))?, [false; 2], "the WAN, {address}");
    }
    for address in own.into_iter().chain(["127.0.0.1", "::1"]) {
        assert_eq!(is_served(&lab.gateway, address, PATIENCE)?, [true; 2], "the gateway, {address}");
    }
    assert!(enforcer.ask("status")?.contains("8 from outside"), "{}", enforcer.ask("status")?);
    // A LAN that is made again has another index.
    lab.gateway.run("ip link del lan0")?;
    lab.connect_client()?;
    let soon = Duration::from_millis(200);
    wait("the LAN is served again", || Ok(matches!(is_served(&lab.client, "10.1.0.1", soon), Ok([true, true]))))?;
    enforcer.stop()
}

#[test]
fn a_bridge_of_lans_and_allowed_prefixes_are_served_dns() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let _resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    let allow = "--dns-allow 198.51.100.0/24 --dns-allow 2001:db8:bad::/64";
    let run = format!("--lan port1 --lan port2 {EVERYWHERE} {allow}");
    let enforcer = Enforcer::start(&lab, "default = \"drop\"\n", &run)?;
    for client in [&lab.client, &lab.neighbour] {
        for address in ["10.1.0.1", "fd00:1::1"] {
            assert_eq!(is_served(client, address, PATIENCE)?, [true; 2], "{address}");
        }
    }
    // Asks from 198.51.100.2 and 2001:db8:ffff::2.
    assert_eq!(is_served(&lab.internet, "198.51.100.1", PATIENCE)?, [true; 2]);
    assert_eq!(is_served(&lab.internet, "2001:db8:ffff::1", Duration::from_millis(500))?, [false; 2]);
    // Beyond a rate, allowed clients get no more than they send, and come by TCP.
    let query = dns::query("www.lab.example", A);
    let truncated = |who: &Namespace, server: &str, count: usize| -> Result<usize> {
        let server: SocketAddr = server.parse()?;
        who.enter(|| {
            let answers = (0..count).map(|_| dns::ask_udp(server, &query, PATIENCE));
            let answers: Vec<Vec<u8>> = answers.filter_map(Result::transpose).collect::<Result<_>>()?;
            assert_eq!(answers.len(), count);
            let truncated = answers.iter().filter(|answer| answer[2] & 2 != 0);
            Ok(truncated.inspect(|answer| assert_eq!(answer.len(), query.len())).count())
        })
    };
    assert!(truncated(&lab.internet, "198.51.100.1:53", 1000)? > 100, "no rate limit");
    assert_eq!(truncated(&lab.client, "10.1.0.1:53", 150)?, 0, "a LAN's client was sent to TCP");
    assert!(lab.internet.enter(|| dns::ask_tcp("198.51.100.1:53".parse()?, &query, PATIENCE)).is_ok());
    enforcer.stop()
}
