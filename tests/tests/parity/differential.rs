//! Random policies and packets through the kernel's programs, against the oracle; frames of every length, and more hosts than random policies have.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::Result;
use enforcer_ebpf::abi::pseudo;
use enforcer_tests::{
    bed::Bed,
    bench::measure,
    differential,
    oracle::{Hook, LanProgram, Random},
};
use ipnet::Ipv4Net;
use rand::{RngExt as _, SeedableRng as _};

#[test]
fn the_programs_agree_with_the_oracle_on_every_packet() -> Result<()> {
    let packets = 500_000;
    let tally = differential::run(packets, 1)?;
    assert!(tally.packets >= packets);
    // All but what takes an interface that no policy covers, and a defect.
    for name in pseudo::NAMES
        .iter()
        .copied()
        .filter(|&name| !["unlisted", "fault", "earlier-policy"].contains(&name))
        .chain(["rules"])
    {
        assert!(
            tally.counted.get(name).is_some_and(|&count| count > 100),
            "too few packets count as {name}: {tally:?}"
        );
    }
    Ok(())
}

/// Behind the Ethernet header: test runs take no shorter frame.
#[test]
fn truncated_frames_of_every_length_are_malformed() -> Result<()> {
    let mut bed = Bed::new()?;
    for v6 in [false, true] {
        bed.enforce("default = \"allow\"\n", 0, 1)?;
        let frame = measure::frame(v6)?;
        let whole = if v6 { 14 + 40 + 20 } else { 14 + 20 + 20 };
        for length in 14..whole {
            for program in [LanProgram::Xdp, LanProgram::XdpFrags] {
                assert!(!bed.passes(Hook::Lan(program), &frame[..length])?, "{length} bytes pass");
            }
        }
        let malformed = bed.counted().find(|(name, _)| *name == "malformed");
        assert_eq!(malformed, Some(("malformed", 2 * (whole as u64 - 14))));
    }
    Ok(())
}

/// Those that a policy lists, and those of names, with those whose buckets were full, which are looked for elsewhere.
#[test]
fn every_host_is_found_and_its_neighbours_are_not() -> Result<()> {
    let mut rng = Random::seed_from_u64(1);
    let mut hosts = BTreeSet::new();
    for _ in 0..8000 {
        hosts.insert(IpAddr::from([17, rng.random(), rng.random(), rng.random()]));
        hosts.insert(IpAddr::V6((0x2620_0149_u128 << 96 | u128::from(rng.random::<u64>())).into()));
    }
    // Many lines below one root cell, and few below others.
    let (dense, sparse) = (0x1100_0000..0x1100_2000_u32, (1..2000).map(|number| 0x1101_0000 + number * 8191));
    let listed: BTreeSet<IpAddr> = dense
        .step_by(2)
        .chain(sparse)
        .map(|host| IpAddr::from(host.to_be_bytes()))
        .filter(|host| !hosts.contains(host))
        .collect();
    let to: String = listed.iter().map(|host| format!("\"{host}\", ")).collect();
    let text = allowing(&(to + "\"*.example.org\""), "");
    let mut bed = Bed::new()?;
    let full = bed.enforce_name(&text, &hosts.iter().copied().collect::<Vec<_>>(), false)?;
    assert!(full.iter().all(|&full| full > 0), "no bucket is full: other hosts or another seed would do");
    hosts.extend(listed);
    for &host in &hosts {
        assert!(passes(&mut bed, host)?, "{host} is lost");
        let neighbour = match host {
            IpAddr::V4(host) => IpAddr::from((u32::from(host) ^ 1).to_be_bytes()),
            IpAddr::V6(host) => IpAddr::V6((u128::from(host) ^ 1).into()),
        };
        assert_eq!(passes(&mut bed, neighbour)?, hosts.contains(&neighbour), "{neighbour}, beside {host}");
    }
    Ok(())
}

/// A few below each of some root cells: within each other, to the end, and as many parts as there may be.
#[test]
fn a_few_prefixes_are_found_and_what_is_beside_them_is_not() -> Result<()> {
    let net = |(address, length): ([u8; 4], u8)| Ipv4Net::new_assert(address.into(), length).trunc();
    let nested = |n: u8| [([18, n, 3, 0], 24), ([18, n, 5, 4], 30), ([18, n, 128, 0], 17)];
    let most = |n: u8| [10, 30, 50, 70, 90].map(|m| ([19, n, m, 0], 24));
    let allowed: Vec<Ipv4Net> = (0..50).flat_map(nested).chain((0..50).flat_map(most)).map(net).collect();
    let denied: Vec<Ipv4Net> = (0..50).map(|n| net(([18, n, 130, n], 31))).collect();
    let list = |nets: &[Ipv4Net]| nets.iter().map(|net| format!("\"{net}\", ")).collect::<String>();
    let (to, inner) = (list(&allowed), list(&denied));
    let text = format!("[[service]]\nname = \"b\"\nto = [{inner}]\n[[rule]]\naction = \"drop\"\nservices = [\"b\"]\n");
    let mut bed = Bed::new()?;
    bed.enforce(&allowing(&to, &text), 0, 1)?;
    for net in allowed.iter().chain(&denied) {
        let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
        for address in [first - 1, first, last, last + 1].map(Ipv4Addr::from) {
            let is_in = |nets: &[Ipv4Net]| nets.iter().any(|net| net.contains(&address));
            assert_eq!(passes(&mut bed, address.into())?, is_in(&allowed) && !is_in(&denied), "{address}, by {net}");
        }
    }
    Ok(())
}

/// A policy that allows one service alone, behind other tables.
fn allowing(to: &str, others: &str) -> String {
    format!(
        "default = \"drop\"\n[[service]]\nname = \"a\"\nto = [{to}]\n{others}[[rule]]\naction = \"allow\"\nservices = [\"a\"]\n"
    )
}

fn passes(bed: &mut Bed, to: IpAddr) -> Result<bool> {
    let mut frame = measure::frame(to.is_ipv6())?;
    match to {
        IpAddr::V4(to) => frame[30..34].copy_from_slice(&to.octets()),
        IpAddr::V6(to) => frame[38..54].copy_from_slice(&to.octets()),
    }
    bed.passes(Hook::Lan(LanProgram::Xdp), &frame)
}
