//! Connections from outside, and what is none.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::Result;
use enforcer_tests::lab::{
    Lab, Plan, probe,
    probe::Outcome::{Answered, Refused},
    product::Enforcer,
    server::{GREETING, Servers},
};

const RUN: &str = "--lan lan0 --wan wan0";

#[test]
fn an_answer_of_the_products_own_is_no_connection_from_outside() -> Result<()> {
    let lab = Lab::new()?;
    let policy = "default = \"drop\"\n[router]\ndefault = \"reject\"\n[inbound]\ndefault = \"allow\"\n";
    let enforcer = Enforcer::start(&lab, policy, RUN)?;
    for to in ["203.0.113.9", "2001:db8:bad::1"] {
        // The answer, "administratively prohibited", comes in the destination's name.
        assert_eq!(probe::udp(&lab.gateway, to, 123, 48)?, Refused);
        // Without an identifier: as other ICMP, it is told apart by nothing but addresses.
        assert!(lab.gateway.run(&format!("ping -e 0 -c 1 -W 1 {to}")).is_err(), "ICMP passes to {to}");
    }
    assert_eq!(enforcer.counters()?["reply"], 0);
    enforcer.stop()
}

#[test]
fn a_later_denial_ends_a_clients_own_tcp_connection() -> Result<()> {
    for plan in [Plan::default(), Plan { nat: true, ..Plan::default() }] {
        let lab = Lab::planned(plan)?;
        let _servers = Servers::start(&lab.internet, &[443], &[])?;
        let _inside = Servers::start(&lab.client, &[22], &[])?;
        let inbound = "[inbound]\ndefault = \"allow\"\n";
        let enforcer = Enforcer::start(&lab, &format!("default = \"allow\"\n{inbound}"), RUN)?;
        let mut stream = lab.client.enter(|| {
            let mut stream = TcpStream::connect("17.1.2.3:443")?;
            stream.read_exact(&mut [0; GREETING.len()])?;
            Ok(stream)
        })?;
        let denying = lab.file("denying.toml", &format!("default = \"drop\"\n{inbound}"))?;
        enforcer.ask(&format!("apply {}", denying.display()))?;
        stream.write_all(b"more")?;
        thread::sleep(Duration::from_millis(300));
        let counters = enforcer.counters()?;
        assert!(counters["reply"] == 0 && counters["default"] > 0, "{counters:?}");
        // One that comes from outside goes on.
        let to = if plan.nat { ("198.51.100.1", 2222) } else { ("10.1.0.2", 22) };
        assert_eq!(probe::tcp(&lab.internet, to.0, to.1)?, Answered);
        assert!(enforcer.counters()?["reply"] > 0);
        enforcer.stop()?;
    }
    Ok(())
}
