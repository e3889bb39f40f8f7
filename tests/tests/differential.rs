//! Random policies and packets through the kernel's programs, against the oracle.

use std::collections::HashMap;

use anyhow::{Result, bail};
use aya::programs::{TestRun as _, TestRunOptions};
use enforcer::{
    catalog::Catalogs,
    compile::{self, Image, Limits},
    kernel::object::Object,
    policy::Policy,
};
use enforcer_ebpf::abi::{PolicyId, pseudo};
use enforcer_tests::{bench::measure::lab_net, oracle};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// By environment, so that a nightly run may do more: `ENFORCER_POLICIES=2000 ENFORCER_PACKETS=5000`.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Names of all counters, as the oracle spells them.
fn names(policy: &Policy, image: &Image) -> Vec<String> {
    let rules = image.counters.iter().map(|(id, counted)| {
        let rules = if *id == PolicyId::Lan { &policy.lan } else { &policy.router };
        let service = counted.service.map_or("any", |service| &policy.services[service.0 as usize].name);
        format!("{}/{service}", rules.rules[counted.rule.0 as usize].label())
    });
    pseudo::NAMES.iter().map(|&name| name.to_owned()).chain(rules).collect()
}

/// Test runs of TC programs refuse frames that end within the network header which their EtherType announces.
fn fits_tc(frame: &[u8]) -> bool {
    let least = match frame[12..14] {
        [0x08, 0x00] => 14 + 20,
        [0x86, 0xdd] => 14 + 40,
        _ => 14 + 1,
    };
    frame.len() >= least
}

/// One hook: the program, and what it returns for a packet that goes on.
fn compare(policies: usize, packets: usize, seed: u64, xdp: bool) -> Result<usize> {
    let mut compared = 0;
    for number in 0..policies as u64 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed + number);
        let wanted = oracle::Policy::random(&mut rng);
        let policy = Policy::parse("random", &wanted.text(), &Catalogs::default())?;
        let image = compile::compile(&policy, &Limits::default(), (seed + number) as u32)?;
        let mut object = Object::load(&image, &lab_net(image.words)?)?;
        let names = names(&policy, &image);
        let mut counted: HashMap<String, u64> = HashMap::new();
        let mut sent = 0;
        while sent < packets {
            for frame in oracle::packets::random(&mut rng, &wanted) {
                if !xdp && !fits_tc(&frame.bytes) {
                    continue;
                }
                let options = TestRunOptions { data_in: Some(&frame.bytes), ..TestRunOptions::new() };
                let passes = if xdp {
                    object.xdp("lan_xdp")?.test_run(options)?.return_value == 2
                } else {
                    object.classifier("lan_ingress")?.test_run(options)?.return_value == u32::MAX
                };
                if passes != frame.expected.passes {
                    bail!(
                        "seed {} (policy {number}, packet {sent}, {}): {} should be {:?}\n{:02x?}\n{}",
                        seed + number,
                        if xdp { "XDP" } else { "TC" },
                        frame.what,
                        frame.expected,
                        frame.bytes,
                        wanted.text()
                    );
                }
                *counted.entry(frame.expected.counter).or_default() += 1;
                sent += 1;
            }
        }
        let counters = object.counters();
        for (name, counter) in names.iter().zip(&counters) {
            let wanted_count = counted.get(name).copied().unwrap_or(0);
            if counter.packets != wanted_count {
                bail!(
                    "seed {}: {name} counted {}, should have {wanted_count}\n{}",
                    seed + number,
                    counter.packets,
                    wanted.text()
                );
            }
        }
        compared += sent;
    }
    Ok(compared)
}

#[test]
fn xdp_agrees_with_the_oracle_on_every_packet() -> Result<()> {
    let (policies, packets) = (number("ENFORCER_POLICIES", 200), number("ENFORCER_PACKETS", 5000));
    let seed = number("ENFORCER_SEED", 1) as u64;
    let compared = compare(policies, packets, seed, true)?;
    println!("seed {seed}: {compared} packets under {policies} policies, no difference");
    assert!(compared >= policies * packets);
    Ok(())
}

#[test]
fn tc_agrees_with_the_oracle_on_every_packet() -> Result<()> {
    let compared = compare(number("ENFORCER_POLICIES", 200) / 10, number("ENFORCER_PACKETS", 5000), 1_000_000, false)?;
    println!("{compared} packets, no difference");
    assert!(compared > 0);
    Ok(())
}

/// Behind the Ethernet header, frames of every length that a test run takes; below it, the parser itself, compiled for this machine.
#[test]
fn truncated_frames_of_every_length_are_malformed() -> Result<()> {
    use enforcer_ebpf::{address::Address, bytes::Bytes, parse};
    struct Reason;
    impl parse::Sink for Reason {
        type Output = Option<parse::Malformed>;
        fn ip<A: Address>(self, _: &parse::Packet<A>) -> Self::Output {
            None
        }
        fn non_ip(self, _: u16) -> Self::Output {
            None
        }
        fn malformed(self, reason: parse::Malformed) -> Self::Output {
            Some(reason)
        }
    }
    let text = "default = \"allow\"\n";
    let policy = Policy::parse("p", text, &Catalogs::default())?;
    let image = compile::compile(&policy, &Limits::default(), 1)?;
    let mut object = Object::load(&image, &lab_net(image.words)?)?;
    for v6 in [false, true] {
        let frame = enforcer_tests::bench::measure::frame(v6)?;
        let whole = if v6 { 14 + 40 + 20 } else { 14 + 20 + 20 };
        for length in 0..whole {
            let cut = &frame[..length];
            assert!(cut.size() == length && parse::ethernet(&cut, Reason).is_some(), "{length} bytes parse");
            if length >= 14 {
                let options = TestRunOptions { data_in: Some(cut), ..TestRunOptions::new() };
                assert_eq!(object.xdp("lan_xdp")?.test_run(options)?.return_value, 1, "{length} bytes pass");
            }
        }
        let malformed = object.counters()[pseudo::MALFORMED as usize].packets;
        assert_eq!(malformed, if v6 { 40 + 60 } else { 40 });
    }
    Ok(())
}
