//! Hosts whose names have expired: connections that stand go on, nothing new begins, and only what is allowed is proof of life.

use std::net::IpAddr;

use anyhow::Result;
use enforcer_ebpf::hosts::epoch_of;
use enforcer_tests::{
    bed::Bed,
    oracle::{Hook, LanProgram},
};
use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};

const POLICY: &str = r#"
default = "drop"
[[service]]
name = "content"
to = ["*.example.org"]
ports = ["tcp/443", "udp/443", "udp/123"]
[[rule]]
action = "allow"
services = ["content"]
from = ["10.1.0.2", "fd00:1::2"]
"#;

const HOOKS: [Hook; 3] = [Hook::Lan(LanProgram::Xdp), Hook::Lan(LanProgram::XdpFrags), Hook::Lan(LanProgram::Tc)];

/// The name's.
fn addresses() -> [IpAddr; 2] {
    [[203, 0, 113, 9].into(), [0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 1].into()]
}

/// A client's packet begun: to the host, from the client that is allowed (2) or its neighbour.
fn packet(v6: bool, client: u8) -> PacketBuilderStep<IpHeaders> {
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
    let (mut from, mut to) = ([0; 16], [0; 16]);
    from[..4].copy_from_slice(&[0xfd, 0, 0, 1]);
    from[15] = client;
    to[..6].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0x0b, 0xad]);
    to[15] = 1;
    if v6 { link.ipv6(from, to, 64) } else { link.ipv4([10, 1, 0, client], [203, 0, 113, 9], 64) }
}

fn tcp(v6: bool, client: u8, syn: bool) -> Vec<u8> {
    let packet = packet(v6, client).tcp(50_000, 443, 1, 1000);
    let packet = if syn { packet.syn() } else { packet.ack(7) };
    let mut frame = Vec::new();
    packet.write(&mut frame, b"x").expect("to memory");
    frame
}

fn udp(v6: bool, client: u8, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    packet(v6, client).udp(50_000, port).write(&mut frame, payload).expect("to memory");
    frame
}

/// QUIC's first bytes: an Initial, and a packet of a connection (RFC 9000, 17.2.2 and 17.3.1).
const INITIAL: &[u8] = &[0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8];
const SHORT: &[u8] = &[0x43, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

#[test]
fn connections_that_stand_pass_a_draining_host_and_nothing_new_does() -> Result<()> {
    let mut bed = Bed::new()?;
    for (hook, v6) in HOOKS.into_iter().flat_map(|hook| [(hook, false), (hook, true)]) {
        let seen = |bed: &mut Bed| -> Result<[bool; 5]> {
            Ok([
                bed.passes(hook, &tcp(v6, 2, true))?,
                bed.passes(hook, &tcp(v6, 2, false))?,
                bed.passes(hook, &udp(v6, 2, 443, INITIAL))?,
                bed.passes(hook, &udp(v6, 2, 443, SHORT))?,
                bed.passes(hook, &udp(v6, 2, 123, SHORT))?,
            ])
        };
        bed.enforce_name(POLICY, &addresses(), false)?;
        assert_eq!(seen(&mut bed)?, [true; 5], "{hook:?}");
        bed.enforce_name(POLICY, &addresses(), true)?;
        assert_eq!(seen(&mut bed)?, [false, true, false, true, false], "{hook:?}");
    }
    Ok(())
}

#[test]
fn only_allowed_packets_of_connections_that_stand_stamp_their_host() -> Result<()> {
    let mut bed = Bed::new()?;
    for (hook, v6) in HOOKS.into_iter().flat_map(|hook| [(hook, false), (hook, true)]) {
        bed.enforce_name(POLICY, &addresses(), false)?;
        bed.begin_epoch(9);
        let stamps = |bed: &Bed| bed.hosts().into_iter().map(epoch_of).max();
        assert_eq!(bed.hosts().len(), 2);
        for frame in [tcp(v6, 2, true), udp(v6, 2, 443, INITIAL), udp(v6, 2, 123, SHORT), tcp(v6, 3, false)] {
            bed.passes(hook, &frame)?;
            assert_eq!(stamps(&bed), Some(0), "{hook:?}");
        }
        assert!(bed.passes(hook, &tcp(v6, 2, false))?);
        assert_eq!(stamps(&bed), Some(9), "{hook:?}");
        bed.begin_epoch(10);
        assert!(bed.passes(hook, &udp(v6, 2, 443, SHORT))?);
        assert_eq!(stamps(&bed), Some(10), "{hook:?}");
    }
    Ok(())
}
