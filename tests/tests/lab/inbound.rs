//! Connections from outside, and what is none.

use anyhow::Result;
use enforcer_tests::lab::{Lab, probe, probe::Outcome::Refused, product::Enforcer};

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
