//! One policy takes another's place while packets pass: each is judged by the one or the other, as a whole.

use std::{fmt::Write as _, time::Instant};

use anyhow::{Context as _, Result};
use enforcer::{
    catalog::Catalogs,
    compile::{self, Limits},
    kernel::{
        attach,
        hook::{TcMode, XdpMode},
        object::{Extras, Object},
        pins::Pins,
    },
    net::{NetImage, image::Roles, watch},
    policy::Policy,
};
use enforcer_tests::lab::{Lab, flood::Flood};

const HOSTS: u16 = 6;
const SWAPS: u32 = 1000;

/// Every host has a port of its own, from a number on, and so no class of the one policy's tables means in the other's what it means here. The order is another,
/// too.
fn policy(first: u16, reversed: bool) -> Result<Policy> {
    let mut text =
        "default = \"drop\"\n[[service]]\nname = \"time\"\nto = [\"17.253.0.0/16\"]\nports = [\"udp/123\"]\n"
            .to_owned();
    let mut hosts: Vec<u16> = (0..HOSTS).collect();
    if reversed {
        hosts.reverse();
    }
    for host in hosts {
        let port = first + host;
        write!(text, "[[service]]\nname = \"s{host}\"\nto = [\"17.10.0.{host}\"]\nports = [\"udp/{port}\"]\n")?;
        write!(text, "[[rule]]\nname = \"r{host}\"\naction = \"allow\"\nservices = [\"s{host}\"]\n")?;
    }
    text += "[[rule]]\nname = \"always\"\naction = \"allow\"\nservices = [\"time\"]\n";
    Ok(Policy::parse("p", &text, &Catalogs::default())?)
}

/// Tests that measure time. No other test runs beside them.
mod serial {
    use super::*;

    #[test]
    fn no_packet_meets_a_mix_of_two_policies() -> Result<()> {
        let lab = Lab::new()?;
        let mut flows = vec![("17.253.4.5".to_owned(), 123, true)];
        for host in 0..HOSTS {
            lab.internet.run(&format!("ip addr add 17.10.0.{host} dev lo"))?;
            // What is another host's in the one policy, and in the other.
            let other = (host + 1) % HOSTS;
            flows.extend([1000, 2000].map(|first| (format!("17.10.0.{host}"), first + other, false)));
        }
        let pins = Pins::open(&lab.pins()?)?;
        let (swaps, tally) = lab.gateway.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let facts = runtime.block_on(watch::read())?;
            let [lan, wan] = ["lan0", "wan0"].map(|name| facts.named(name).context("no such interface"));
            let (lan, wan) = (lan?, wan?);
            let roles = Roles { lans: [lan.index].into_iter().collect(), wans: [wan.index].into_iter().collect() };
            let load = |first, reversed, seed| -> Result<Object> {
                let policy = policy(first, reversed)?;
                let image = compile::compile(&policy, &Limits::default(), seed)?;
                let net = NetImage::new(&facts, &roles, image.words)?;
                let extras = Extras { pins: Some(&pins), ..Extras::default() };
                Ok(Object::load_with(&image, &net, extras)?.0)
            };
            let mut sets = [load(1000, false, 1)?, load(2000, true, 2)?];
            let mut attached = attach::wan(&mut sets[0], &pins, wan, TcMode::Auto)?;
            attached.extend(attach::lan(&mut sets[0], &pins, lan, XdpMode::Native, TcMode::Auto)?);
            let flows: Vec<(&str, u16, bool)> =
                flows.iter().map(|(to, port, passes)| (to.as_str(), *port, *passes)).collect();
            let flood = Flood::start(&lab, &flows)?;
            let start = Instant::now();
            for swap in 0..SWAPS {
                let next = &mut sets[(swap as usize + 1) % 2];
                for hook in &mut attached {
                    hook.replace(next)?;
                }
            }
            let swaps = f64::from(SWAPS) / start.elapsed().as_secs_f64();
            let tally = flood.stop()?;
            // Both have judged, and no packet is counted by none or by both.
            let counted =
                sets.each_ref().map(|set| set.counters().sums().iter().map(|counter| counter.packets).sum::<u64>());
            assert!(counted.iter().all(|&counted| counted > tally.sent / 10), "{counted:?} of {tally:?}");
            let rules = |set: &Object| -> u64 {
                let sums = set.counters().sums();
                let default = enforcer_ebpf::abi::pseudo::DEFAULT as usize;
                let first = enforcer_ebpf::abi::pseudo::COUNT as usize;
                sums[default].packets
                    + sums[first..first + usize::from(HOSTS) + 1].iter().map(|sum| sum.packets).sum::<u64>()
            };
            assert_eq!(sets.iter().map(rules).sum::<u64>(), tally.sent);
            attached.into_iter().for_each(attach::Attached::detach);
            Ok((swaps, tally))
        })?;
        println!("{SWAPS} swaps, {swaps:.0} a second, {tally:?}");
        assert_eq!((tally.lost, tally.leaked), (0, 0), "{tally:?}");
        Ok(())
    }
}
