//! What each kind of packet costs, and each verdict.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::{MapData, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use enforcer::{
    compile::Addresses,
    policy::{Action, Gate, Policy, Portal, Rule, ServiceId},
};
use enforcer_ebpf::abi::Budget;
use ipnet::IpNet;
use rand::{Rng, seq::IndexedRandom as _};

use super::{
    measure::{Bench, Pace, frame, programs},
    sets,
};

/// What the benchmark's `--only` calls them.
pub const NAME: &str = "kinds";
/// The prefixes that targets are of.
pub const PREFIXES: usize = 1000;
/// Rules that prefixes are in, if there are as many.
const RULES: usize = 100;
/// A kind that has a target.
pub const ALLOWED: &str = "IPv4, allowed";
/// Likewise.
pub const DROPPED: &str = "IPv4, dropped";
/// Addresses of names.
const LEARNED: usize = 1000;

const DROP: u32 = 1;
const PASS: u32 = 2;

/// Measures every kind at so many prefixes, and hands each over: its name, nanoseconds per packet above the floor, and what it was measured with.
///
/// # Errors
/// If the kernel refuses, or a program returns what it should not.
pub fn measure(
    prefixes: usize,
    pace: Pace,
    rng: &mut impl Rng,
    mut each: impl FnMut(&'static str, f64, &Bench),
) -> Result<()> {
    let nets = sets::prefixes(rng, prefixes, false);
    let policy = |action, rng: &mut _| with_action(sets::many_rules(rng, RULES, &nets), action);
    let usual = frame(false)?;

    let mut bench = Bench::new(&policy(Action::Allow, rng), pace)?;
    aim(&mut bench, &nets, rng);
    for (kind, frame) in [
        (ALLOWED, usual.clone()),
        ("IPv4, allowed, VLAN tag", tagged(&usual)),
        ("IPv4, allowed, options", with_options(&usual)),
        ("IPv4, allowed, first fragment", first_fragment(&usual)),
    ] {
        each(kind, time(&mut bench, kind, &frame, PASS)?, &bench);
    }
    // Those behind it share its fate only at the same address.
    let one = sets::within(rng, &nets[0]);
    bench.aim(|| one);
    time(&mut bench, "IPv4, head", &first_fragment(&usual), PASS)?;
    let kind = "IPv4, allowed, later fragment";
    each(kind, time(&mut bench, kind, &later_fragment(&usual), PASS)?, &bench);

    for (kind, action, expected) in [
        (DROPPED, Action::Drop, DROP),
        ("IPv4, rejected", Action::Reject, DROP),
        ("IPv4, monitored", Action::Monitor, PASS),
    ] {
        let mut bench = Bench::new(&policy(action, rng), pace)?;
        // In a flood, nearly all are beyond what is answered; an answer would be the next packet of the benchmark's.
        answer_nobody(&mut bench)?;
        aim(&mut bench, &nets, rng);
        each(kind, time(&mut bench, kind, &usual, expected)?, &bench);
    }

    let mut behind_portal = policy(Action::Allow, rng);
    behind_portal.portal = Some(Portal { from: None, services: Vec::new(), action: Action::Drop });
    behind_portal.lan.rules.insert(0, Rule { gate: Some(Gate::Closes), ..Rule::new(Action::Drop) });
    let all_clients: Vec<String> = (2..255).map(|host| format!("10.1.0.{host}")).collect();
    for (kind, admitted, expected) in [
        ("IPv4, not admitted, dropped", Vec::new(), DROP),
        ("IPv4, allowed, admitted by address", all_clients, PASS),
        ("IPv4, allowed, admitted by prefix", vec!["10.1.0.0/24".to_owned()], PASS),
    ] {
        let mut bench = Bench::new(&behind_portal, pace)?;
        for client in admitted {
            bench.parts().0.admitted().set(client.parse()?, Some(u64::MAX))?;
        }
        aim(&mut bench, &nets, rng);
        each(kind, time(&mut bench, kind, &usual, expected)?, &bench);
    }

    let hosts: Vec<IpAddr> = sets::hosts(rng, LEARNED).iter().map(IpNet::addr).collect();
    let mut bench = Bench::new(&named(policy(Action::Allow, rng))?, pace)?;
    learn(&mut bench, &hosts)?;
    bench.aim(|| *hosts.choose(rng).expect("not empty"));
    let kind = "IPv4, allowed, by a name's address";
    each(kind, time(&mut bench, kind, &usual, PASS)?, &bench);

    let nets = sets::prefixes(rng, prefixes, true);
    let mut bench = Bench::new(&sets::many_rules(rng, RULES, &nets), pace)?;
    aim(&mut bench, &nets, rng);
    let usual = frame(true)?;
    for (kind, frame) in
        [("IPv6, allowed", usual.clone()), ("IPv6, allowed, extension headers", with_extensions(&usual))]
    {
        each(kind, time(&mut bench, kind, &frame, PASS)?, &bench);
    }
    Ok(())
}

fn time(bench: &mut Bench, kind: &str, frame: &[u8], expected: u32) -> Result<f64> {
    let [floor, program] = programs(frame[12] == 0x86);
    let (nanoseconds, returned) = bench.time(floor, &[program], frame)?[0];
    ensure!(returned == expected, "{kind}: the program returned {returned}, not {expected}");
    Ok(nanoseconds)
}

/// At random addresses in random prefixes.
pub fn aim(bench: &mut Bench, nets: &[IpNet], rng: &mut impl Rng) {
    bench.aim(|| {
        let net = nets.choose(rng).expect("not empty");
        sets::within(rng, net)
    });
}

fn with_action(mut policy: Policy, action: Action) -> Policy {
    policy.lan.rules.iter_mut().for_each(|rule| rule.action = action);
    // What no rule takes is to show in what the program returns.
    if matches!(action, Action::Drop | Action::Reject) {
        policy.lan.default = Action::Allow;
    }
    policy
}

/// With a name in its first service.
fn named(mut policy: Policy) -> Result<Policy> {
    policy.services[0].names.push("*.example.org".parse()?);
    Ok(policy)
}

fn learn(bench: &mut Bench, hosts: &[IpAddr]) -> Result<()> {
    let (object, live) = bench.parts();
    let epoch = object.epoch();
    let mut addresses = Addresses::new(&[]);
    for &host in hosts {
        let stored = addresses.set(object.memory(), live, host, &[ServiceId(0)], false, epoch);
        stored.ok().context("there is no room for an address")?;
    }
    Ok(())
}

/// Spends what may be answered until the end of the world.
fn answer_nobody(bench: &mut Bench) -> Result<()> {
    let mut budgets: PerCpuArray<MapData, [u64; 3]> = bench.take_map("BUDGETS")?;
    let cpus = nr_cpus().map_err(|(_, error)| error)?;
    Ok(budgets.set(Budget::Answers as u32, PerCpuValues::try_from(vec![[u64::MAX / 2, 0, 0]; cpus])?, 0)?)
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat()
}

/// With four options that say nothing.
fn with_options(frame: &[u8]) -> Vec<u8> {
    let mut with = [&frame[..34], &[1; 4], &frame[34..]].concat();
    with[14] = 0x46;
    with[17] += 4;
    with
}

fn first_fragment(frame: &[u8]) -> Vec<u8> {
    let mut head = frame.to_vec();
    // A multiple of eight bytes behind the header.
    head.truncate(14 + 20 + 24);
    head[17] = 20 + 24;
    head[20] = 0x20;
    head
}

fn later_fragment(frame: &[u8]) -> Vec<u8> {
    let mut tail = first_fragment(frame);
    (tail[20], tail[21]) = (0, 3);
    tail
}

/// With hop-by-hop and destination options.
fn with_extensions(frame: &[u8]) -> Vec<u8> {
    let mut with = [&frame[..54], &[60, 0, 1, 4, 0, 0, 0, 0], &[6, 0, 1, 4, 0, 0, 0, 0], &frame[54..]].concat();
    with[19] += 16;
    with[20] = 0;
    with
}
