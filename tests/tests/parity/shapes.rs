//! Frames as they are met on real networks, by name, at every hook that sees clients.

use std::collections::BTreeMap;

use anyhow::Result;
use enforcer_tests::{
    bed::Bed,
    oracle::{Hook, LanProgram},
};
use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep, VlanId};

const POLICY: &str = r#"
default = "drop"
[[service]]
name = "web"
to = ["17.0.0.0/8", "2620:149::/32"]
ports = ["tcp/443", "udp/443"]
[[service]]
name = "dns"
to = ["any"]
ports = ["udp/53", "tcp/53"]
[[service]]
name = "time"
to = ["any"]
ports = ["udp/123"]
[[service]]
name = "ping"
to = ["any"]
ports = ["icmp/8", "icmpv6/128"]
[[service]]
name = "calls"
to = ["any"]
ports = ["sctp/38412", "udplite/5004"]
[[service]]
name = "tunnels"
to = ["any"]
ports = ["proto/4", "proto/41", "proto/47", "proto/50", "proto/51"]
[[rule]]
name = "r"
action = "allow"
services = ["web", "dns", "time", "ping", "calls", "tunnels"]
"#;

const CLIENT4: [u8; 4] = [10, 1, 0, 2];
const CLIENT6: [u8; 16] = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const SERVER4: [u8; 4] = [17, 1, 2, 3];
const SERVER6: [u8; 16] = [0x26, 0x20, 1, 0x49, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
const LINK6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// A group of IPv6's on the link.
const fn group6(number: u16) -> [u8; 16] {
    let [high, low] = number.to_be_bytes();
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]
}

type Ip = PacketBuilderStep<etherparse::IpHeaders>;

fn link() -> PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])
}

fn v4() -> Ip {
    link().ipv4(CLIENT4, SERVER4, 64)
}

fn v6() -> Ip {
    link().ipv6(CLIENT6, SERVER6, 64)
}

fn udp(ip: Ip, port: u16, length: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    ip.udp(50_000, port).write(&mut frame, &vec![7; length]).expect("to memory");
    frame
}

fn tcp(ip: Ip, port: u16, length: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    ip.tcp(50_000, port, 1, 1000).ack(1).write(&mut frame, &vec![7; length]).expect("to memory");
    frame
}

fn raw(ip: Ip, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    // Headers that IPv6 chains are no payloads for the builder: the number is written over one that means nothing.
    ip.write(&mut frame, IpNumber::EXPERIMENTAL_AND_TESTING_0, payload).expect("to memory");
    let at = if frame[14] >> 4 == 4 { 14 + 9 } else { 14 + 6 };
    frame[at] = protocol;
    frame
}

fn without_ip(kind: u16, length: usize) -> Vec<u8> {
    [&[2; 12][..], &kind.to_be_bytes(), &vec![0; length]].concat()
}

/// A frame from the network header on, as another one quotes or carries it.
fn inner(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

/// An IPv4 packet's part.
fn part4(id: u16, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = raw(v4(), 17, payload);
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[20..22].copy_from_slice(&(offset / 8 + 0x2000 * u16::from(more)).to_be_bytes());
    frame
}

fn part6(id: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (offset | u16::from(more)).to_be_bytes();
    raw(v6(), 44, &[&[17, 0, high, low, 0, 0, 0, id], payload].concat())
}

/// Names, frames, and what counts them.
fn tcp_and_udp() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let flags = |set: fn(PacketBuilderStep<etherparse::TcpHeader>) -> PacketBuilderStep<etherparse::TcpHeader>| {
        let mut frame = Vec::new();
        set(v4().tcp(50_000, 443, 1, 1000)).write(&mut frame, &[]).expect("to memory");
        frame
    };
    let vlan = |number| VlanId::try_new(number).expect("twelve bits");
    vec![
        (
            "TCP SYN with options",
            flags(|tcp| {
                tcp.syn()
                    .options_raw(&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7])
                    .expect("they fit")
            }),
            "r/web",
        ),
        ("TCP ACK", flags(|tcp| tcp.ack(1)), "r/web"),
        ("TCP FIN", flags(|tcp| tcp.fin().ack(1)), "r/web"),
        ("TCP RST", flags(PacketBuilderStep::<etherparse::TcpHeader>::rst), "r/web"),
        ("TCP data", tcp(v4(), 443, 1460), "r/web"),
        ("TCP data, IPv6", tcp(v6(), 443, 1440), "r/web"),
        ("TCP to another port", tcp(v4(), 80, 100), "default"),
        ("TCP in a VLAN", tcp(link().single_vlan(vlan(7)).ipv4(CLIENT4, SERVER4, 64), 443, 0), "r/web"),
        ("TCP in QinQ", tcp(link().double_vlan(vlan(7), vlan(9)).ipv6(CLIENT6, SERVER6, 64), 443, 0), "r/web"),
        ("DNS query", udp(v4(), 53, 33), "r/dns"),
        ("DNS query, IPv6", udp(v6(), 53, 33), "r/dns"),
        ("QUIC Initial", udp(v4(), 443, 1200), "r/web"),
        ("QUIC Initial, IPv6", udp(v6(), 443, 1200), "r/web"),
        ("NTP", udp(v4(), 123, 48), "r/time"),
        ("an empty datagram", udp(v6(), 123, 0), "r/time"),
        ("SCTP INIT", raw(v4(), 132, &[0xc3, 0x50, 0x96, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4]), "r/calls"),
        ("UDP-Lite", raw(v6(), 136, &[0xc3, 0x50, 0x13, 0x8c, 0, 8, 0, 0, 1, 2, 3, 4]), "r/calls"),
    ]
}

fn local() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let alert = [58, 0, 5, 2, 0, 0, 1, 0];
    let report = [143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0];
    let mut igmp = raw(link().ipv4(CLIENT4, [224, 0, 0, 22], 1), 2, &[0x22, 0, 0, 0, 0, 0, 0, 1]);
    // Router alert, right behind the header.
    igmp.splice(34..34, [148, 4, 0, 0]);
    (igmp[14], igmp[17]) = (0x46, 32);
    vec![
        ("mDNS", udp(link().ipv4(CLIENT4, [224, 0, 0, 251], 255), 5353, 40), "local"),
        ("mDNS, IPv6", udp(link().ipv6(LINK6, group6(0xfb), 255), 5353, 40), "local"),
        ("DHCPDISCOVER", udp(link().ipv4([0; 4], [255; 4], 64), 67, 300), "local"),
        (
            "DHCPv6 Solicit",
            udp(link().ipv6(LINK6, [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2], 1), 547, 60),
            "local",
        ),
        ("IGMPv3 report with router alert", igmp, "local"),
        (
            "MLDv2 report with router alert",
            raw(link().ipv6(LINK6, group6(0x16), 1), 0, &[&alert[..], &report].concat()),
            "local",
        ),
        (
            "neighbour solicitation",
            raw(link().ipv6(CLIENT6, group6(1), 255), 58, &[&[135, 0, 0, 0, 0, 0, 0, 0], &CLIENT6[..]].concat()),
            "local",
        ),
        (
            "neighbour solicitation from afar",
            raw(v6(), 58, &[&[135, 0, 0, 0, 0, 0, 0, 0], &CLIENT6[..]].concat()),
            "malformed",
        ),
        (
            "duplicate address detection",
            raw(link().ipv6([0; 16], group6(1), 255), 58, &[&[135, 0, 0, 0, 0, 0, 0, 0], &CLIENT6[..]].concat()),
            "local",
        ),
        ("GRE to the gateway", raw(link().ipv4(CLIENT4, [10, 1, 0, 1], 64), 47, &[0, 0, 8, 0]), "r/tunnels"),
        ("VXLAN to a group", udp(link().ipv4(CLIENT4, [239, 1, 1, 1], 64), 4789, 58), "default"),
    ]
}

fn icmp_and_tunnels() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let about4 = |port| {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(SERVER4, CLIENT4, 60).udp(port, 50_000).write(&mut packet, &[1; 8]).expect("to memory");
        packet
    };
    let about6 = |port| {
        let mut packet = Vec::new();
        PacketBuilder::ipv6(SERVER6, CLIENT6, 60).udp(port, 50_000).write(&mut packet, &[1; 8]).expect("to memory");
        packet
    };
    let error = |kind, code, about: &[u8]| [&[kind, code, 0, 0, 0, 0, 5, 0], about].concat();
    let ah = [6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    vec![
        ("echo request", raw(v4(), 1, &[8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4]), "r/ping"),
        ("echo request, IPv6", raw(v6(), 58, &[128, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4]), "r/ping"),
        ("echo reply", raw(v4(), 1, &[0, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4]), "default"),
        ("port unreachable, of an allowed server", raw(v4(), 1, &error(3, 3, &about4(123))), "icmp-error"),
        ("port unreachable, of another one", raw(v4(), 1, &error(3, 3, &about4(1900))), "default"),
        ("packet too big, of an allowed server", raw(v6(), 58, &error(2, 0, &about6(443))), "icmp-error"),
        ("packet too big, of another one", raw(v6(), 58, &error(2, 0, &about6(1900))), "default"),
        ("GRE", raw(v4(), 47, &[&[0, 0, 8, 0][..], inner(&tcp(v4(), 80, 0))].concat()), "r/tunnels"),
        ("IPIP", raw(v4(), 4, inner(&tcp(v4(), 80, 0))), "r/tunnels"),
        ("6in4", raw(v4(), 41, inner(&tcp(v6(), 80, 0))), "r/tunnels"),
        ("ESP", raw(v4(), 50, &[1; 40]), "r/tunnels"),
        ("ESP, IPv6", raw(v6(), 50, &[1; 40]), "r/tunnels"),
        ("AH over TCP", raw(v6(), 51, &[&ah[..], &inner(&tcp(v6(), 80, 0))[40..]].concat()), "r/tunnels"),
        ("IPsec in UDP", udp(v4(), 4500, 100), "default"),
        ("mobility header", raw(v6(), 135, &[59, 0, 1, 0, 0, 0, 0, 0]), "default"),
        (
            "a routing header of segments",
            raw(v6(), 43, &[&[6, 2, 4, 0, 0, 0, 0, 0][..], &SERVER6, &[0; 20]].concat()),
            "source-route",
        ),
    ]
}

fn links() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        ("ARP", without_ip(0x0806, 46), "non-ip-exempt"),
        ("spanning tree over LLC", without_ip(38, 46), "non-ip-exempt"),
        ("LLDP", without_ip(0x88cc, 60), "non-ip-exempt"),
        ("LACP", without_ip(0x8809, 110), "non-ip-exempt"),
        ("802.1X", without_ip(0x888e, 46), "non-ip-exempt"),
        ("PPPoE discovery", without_ip(0x8863, 46), "non-ip"),
        ("PPPoE session", without_ip(0x8864, 46), "non-ip"),
        ("MPLS", without_ip(0x8847, 46), "non-ip"),
        ("MACsec", without_ip(0x88e5, 46), "non-ip"),
        ("PTP", without_ip(0x88f7, 46), "non-ip"),
        ("wake on LAN", without_ip(0x0842, 102), "non-ip"),
    ]
}

/// A packet's three parts in every order; only a head lets those behind it pass.
fn fragments() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let head: Vec<u8> = [&[0xc3, 0x50, 0, 53, 0, 40, 0, 0][..], &[1; 8]].concat();
    let parts: [(u16, bool, &[u8]); 3] = [(0, true, &head), (16, true, &[2; 16]), (32, false, &[3; 8])];
    let mut frames = Vec::new();
    for (number, order) in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]].into_iter().enumerate() {
        let mut seen = false;
        for index in order {
            let (offset, more, payload) = parts[index];
            seen |= index == 0;
            let counter = if seen { "r/dns" } else { "fragment" };
            frames.push(("a fragment", part4(number as u16, offset, more, payload), counter));
            frames.push(("a fragment, IPv6", part6(number as u8, offset, more, payload), counter));
        }
    }
    frames
}

fn check(bed: &mut Bed, program: LanProgram, frames: Vec<(&'static str, Vec<u8>, &'static str)>) -> Result<()> {
    bed.enforce(POLICY, 0, 1)?;
    let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, frame, counter) in frames {
        let passes = bed.passes(Hook::Lan(program), &frame)?;
        let passing = counter.starts_with("r/") || ["local", "icmp-error", "non-ip-exempt"].contains(&counter);
        assert_eq!(passes, passing, "{name} ({program:?}), to be counted as {counter}: {frame:02x?}");
        *wanted.entry(counter).or_default() += 1;
        let counted: BTreeMap<&str, u64> = bed.counted().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, wanted, "{name} ({program:?}), to be counted as {counter}");
    }
    Ok(())
}

#[test]
fn well_known_frames_are_what_they_are_known_as() -> Result<()> {
    let mut bed = Bed::new()?;
    for program in [LanProgram::Xdp, LanProgram::XdpFrags, LanProgram::Tc] {
        for frames in [tcp_and_udp(), local(), icmp_and_tunnels(), links(), fragments()] {
            check(&mut bed, program, frames)?;
        }
    }
    Ok(())
}

/// Larger than a page: its headers are in the first of its buffers.
#[test]
fn jumbo_frames_span_buffers() -> Result<()> {
    let frames = vec![
        ("TCP, 9000 bytes", tcp(v4(), 443, 8960), "r/web"),
        ("TCP, 9000 bytes, IPv6", tcp(v6(), 443, 8940), "r/web"),
        ("UDP, 9000 bytes", udp(v4(), 53, 8972), "r/dns"),
        ("UDP, 9000 bytes, IPv6", udp(v6(), 1900, 8952), "default"),
        ("GRE, 9000 bytes", raw(v6(), 47, &[0; 8960]), "r/tunnels"),
    ];
    check(&mut Bed::new()?, LanProgram::XdpFrags, frames)
}
