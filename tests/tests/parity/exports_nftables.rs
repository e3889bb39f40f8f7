//! The table of nftables against the enforcer: real packets, forwarded or not.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use enforcer::{catalog::Catalogs, export::at, policy::Policy};
use enforcer_tests::{
    lab::{
        Lab,
        exported::export,
        forwarded::{Forwarded, apply},
        namespace::Namespace,
        probe::{self, Outcome},
        product::Enforcer,
        rounds,
        server::Servers,
    },
    oracle::{self, Generator, Random},
};
use jiff::Timestamp;
use rand::SeedableRng as _;

/// Under one policy.
const PACKETS: usize = 4000;
const POLICIES: u32 = 25;

/// Exports a policy's file by the program, and loads what it writes.
fn load(lab: &Lab, policy: &str, arguments: &str) -> Result<String> {
    let (table, _) = export(lab, "nftables", policy, &format!("--lan lan0 --wan wan0 {arguments}"))?;
    let file = lab.file("exported.nft", &table)?;
    lab.gateway.run(&format!("nft -f {}", file.display())).with_context(|| policy.to_owned())?;
    Ok(table)
}

/// The rules as they are at the hour for which the oracle expects something.
#[test]
fn nftables_and_the_enforcer_agree_on_every_packet() -> Result<()> {
    let (enforced, filtered) = (Lab::new()?, Lab::new()?);
    let (mut by_enforcer, mut by_nftables) = (Forwarded::new(&enforced)?, Forwarded::new(&filtered)?);
    let enforcer = Enforcer::start(&enforced, "default = \"drop\"\n", "--lan lan0 --wan wan0")?;
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    let policies = rounds(POLICIES);
    for seed in 0..u64::from(policies) {
        let mut rng = Random::seed_from_u64(seed);
        let random = oracle::Policy::random(&mut rng);
        let time = Timestamp::from_second(i64::from(random.hour) * 3600 + 1800)?;
        let policy = Policy::parse("random", &random.text(), &Catalogs::default())?;
        apply(&enforced, &enforcer, &at(&policy, Some(time))?.to_string())?;
        load(&filtered, &random.text(), &format!("--at {time}"))?;
        let mut generator = Generator::new(rng, &random);
        let frames: Vec<_> = (0..PACKETS).map(|_| generator.forwarded()).collect();
        let bytes: Vec<Vec<u8>> = frames.iter().map(|frame| frame.bytes.clone()).collect();
        let [enforced, filtered] = [by_enforcer.through(&bytes)?, by_nftables.through(&bytes)?];
        for (index, frame) in frames.iter().enumerate() {
            let expected = frame.expected.as_ref().is_some_and(|expected| expected.passes || random.monitor);
            let [enforcer, nftables] = [&enforced, &filtered].map(|came| came.contains(&index));
            ensure!(
                enforcer == nftables && enforcer == expected,
                "seed {seed}, packet {index}: passes the enforcer: {enforcer}, nftables: {nftables}, should: {expected}: {frame:02x?}\n{}",
                random.text()
            );
            *tally.entry(if expected { "passed" } else { "denied" }).or_default() += 1;
        }
    }
    println!("{tally:?}");
    assert!(tally.values().all(|&count| count > PACKETS * policies as usize / 5), "{tally:?}");
    assert_eq!(tally.values().sum::<usize>(), PACKETS * policies as usize);
    Ok(())
}

const POLICY: &str = r#"
default = "reject"
[[service]]
name = "web"
to = ["17.1.2.3", "2620:149::5"]
ports = ["tcp/443"]
[[service]]
name = "ssh"
to = ["10.1.0.2", "fd00:1::2", "198.51.100.1"]
ports = ["tcp/22"]
[[service]]
name = "named"
to = ["www.example.org"]
ports = ["tcp/443"]
[[rule]]
name = "web"
action = "allow"
services = ["web", "named"]
[router]
default = "drop"
[[router.rule]]
action = "allow"
services = ["web"]
[inbound]
[[inbound.rule]]
action = "allow"
services = ["ssh"]
"#;

fn outcomes(from: &Namespace, to: &[(&str, u16)]) -> Result<Vec<Outcome>> {
    to.iter().map(|(to, port)| probe::tcp(from, to, *port)).collect()
}

#[test]
fn connections_replies_and_the_gateways_own_packets_are_as_the_policy_has_them() -> Result<()> {
    use Outcome::{Answered, Refused, Silence};
    let lab = Lab::new()?;
    let _internet = Servers::start(&lab.internet, &[443, 80], &[])?;
    let _client = Servers::start(&lab.client, &[22, 23], &[])?;
    let _gateway = Servers::start(&lab.gateway, &[22], &[])?;
    let text = load(&lab, POLICY, "")?;
    let places = [("17.1.2.3", 443), ("2620:149::5", 443), ("17.1.2.3", 80), ("2620:149::5", 80), ("203.0.113.9", 443)];
    assert_eq!(outcomes(&lab.client, &places)?, [Answered, Answered, Refused, Refused, Refused]);
    assert_eq!(outcomes(&lab.gateway, &places)?, [Answered, Answered, Silence, Silence, Silence]);
    // Replies pass where an inbound rule names the service.
    let inside = [("10.1.0.2", 22), ("fd00:1::2", 22), ("198.51.100.1", 22), ("10.1.0.2", 23), ("fd00:1::2", 23)];
    assert_eq!(outcomes(&lab.internet, &inside)?[..3], [Answered; 3]);
    assert!(outcomes(&lab.internet, &inside)?[3..].iter().all(|outcome| *outcome != Answered));
    // Addresses of names stay when the table is loaded again.
    let set = text.split_whitespace().find(|word| word.starts_with("n4-named-")).context("no set of names")?;
    lab.gateway.run(&format!("nft add element inet enforcer {set} {{ 203.0.113.9 }}"))?;
    assert_eq!(outcomes(&lab.client, &places)?[4], Answered);
    assert_eq!(load(&lab, POLICY, "")?, text, "an export is not the same again");
    assert_eq!(outcomes(&lab.client, &places)?[4], Answered);
    // What another policy has no more is gone at once.
    load(&lab, &POLICY.replace("\"17.1.2.3\", ", ""), "")?;
    assert_eq!(outcomes(&lab.client, &places)?[..2], [Refused, Answered]);
    Ok(())
}

#[test]
fn an_interface_whose_name_is_anothers_number_is_known_by_its_name() -> Result<()> {
    use Outcome::{Answered, Refused};
    let lab = Lab::new()?;
    let _internet = Servers::start(&lab.internet, &[443, 80], &[])?;
    let number = lab.gateway.output("cat /sys/class/net/wan0/ifindex")?;
    let number = number.trim();
    for change in ["lan0 down".to_owned(), format!("lan0 name {number}"), format!("{number} up")] {
        lab.gateway.run(&format!("ip link set dev {change}"))?;
    }
    let (table, _) = export(&lab, "nftables", POLICY, &format!("--lan {number} --wan wan0"))?;
    lab.gateway.run(&format!("nft -f {}", lab.file("exported.nft", &table)?.display()))?;
    assert_eq!(outcomes(&lab.client, &[("17.1.2.3", 443), ("17.1.2.3", 80)])?, [Answered, Refused]);
    Ok(())
}
