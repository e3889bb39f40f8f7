//! Real traffic, as Debian ships it with a library for reading it, under random policies that speak of its addresses.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::{
    bed::Bed,
    oracle::{Hook, LanProgram, Policy, Random, dissect, net::Net, policy::Port, world::World},
};
use rand::{RngExt as _, SeedableRng as _, seq::IndexedRandom as _};

const FOLDER: &str = "/usr/share/doc/python3-dpkt/examples/data";

/// The packets of pcap files, little-endian as these are: a header of 24 bytes, then each packet behind 16 bytes that end with its length here and on
/// the wire.
fn frames() -> Result<Vec<Vec<u8>>> {
    const MAGIC: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];
    const ETHERNET: [u8; 4] = [1, 0, 0, 0];
    let mut frames = Vec::new();
    for name in ["dns_icmp", "http", "nb6-http", "truncated_dns", "truncated_dns_2"] {
        let path = format!("{FOLDER}/{name}.pcap");
        let file = fs::read(&path).with_context(|| format!("{path}: `cargo xtask setup` installs it"))?;
        let (header, mut rest) = file.split_at_checked(24).context("no header")?;
        ensure!(header[..4] == MAGIC && header[20..] == ETHERNET, "{path} is no pcap file of Ethernet");
        while let Some((record, behind)) = rest.split_first_chunk::<16>() {
            let length = u32::from_le_bytes([record[8], record[9], record[10], record[11]]);
            let frame;
            (frame, rest) = behind.split_at_checked(length as usize).with_context(|| format!("{path} is cut off"))?;
            frames.push(frame.to_vec());
        }
    }
    Ok(frames)
}

/// A random policy, some of whose services are those of the captured packets.
fn policy(rng: &mut Random, frames: &[Vec<u8>]) -> Policy {
    let mut policy = Policy::random(rng);
    for service in &mut policy.services {
        let frame = frames.choose(rng).expect("there are frames");
        if let [a, b, c, d] = frame[30..34] {
            service.to.push(Net::around([a, b, c, d].into(), rng.random_range(8..=32)));
        }
        let ports = [Port::Any, Port::Range(6, 80, 80), Port::Range(17, 53, 53), Port::Icmp(4, Some(8), None)];
        service.ports.push(*ports.choose(rng).expect("four"));
    }
    policy
}

#[test]
fn captured_frames_are_judged_as_another_parser_reads_them() -> Result<()> {
    const HOOKS: [Hook; 4] =
        [Hook::Lan(LanProgram::Xdp), Hook::Lan(LanProgram::XdpFrags), Hook::Lan(LanProgram::Tc), Hook::Router];
    let frames = frames()?;
    let mut bed = Bed::new()?;
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..100 {
        let policy = policy(&mut Random::seed_from_u64(seed), &frames);
        bed.enforce(&policy.text(), policy.hour, seed as u32)?;
        let world = World::new(&policy);
        let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
        for (hook, frame) in HOOKS.iter().flat_map(|hook| frames.iter().map(move |frame| (*hook, frame))) {
            let expected = dissect::judge(&world, hook, frame)?;
            let passes = bed.passes(hook, frame)?;
            let should = expected.passes || policy.monitor;
            assert_eq!(passes, should, "seed {seed}, {hook:?}: {expected:?}\n{frame:02x?}\n{}", policy.text());
            *wanted.entry(expected.counter).or_default() += 1;
        }
        let counted = bed.counted().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count));
        assert_eq!(counted.collect::<BTreeMap<_, _>>(), wanted, "seed {seed}\n{}", policy.text());
        for (name, count) in wanted {
            let name = if name.contains('/') { "rules".into() } else { name };
            *all.entry(name).or_default() += count;
        }
    }
    for name in ["default", "router-default", "rules", "source", "malformed", "non-ip", "non-ip-exempt"] {
        assert!(all.contains_key(name), "nothing counted as {name}: {all:?}");
    }
    Ok(())
}
