//! A rejected sender is told at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use aya::programs::{TestRun as _, TestRunOptions};
use enforcer::{
    catalog::Catalogs,
    compile::{self, Limits},
    kernel::object::Object,
    policy::Policy,
};
use enforcer_tests::bench::measure::lab_net;
use enforcer_tests::lab::{
    Lab, Namespace, Plan, awake,
    forwarded::packets,
    probe,
    probe::Outcome::{self, Answered, Refused, Silence},
    product::Enforcer,
    server::Servers,
};
use etherparse::{IpNumber, NetSlice, PacketBuilder, SlicedPacket, VlanId};

const POLICY: &str = r#"
default = "reject"
[[service]]
name = "web"
to = ["17.0.0.0/8", "2620:149::/32"]
ports = ["tcp/443"]
[[rule]]
action = "allow"
services = ["web"]
[router]
default = "reject"
[[router.rule]]
action = "allow"
services = ["web"]
"#;

/// Before a sender that is told nothing would send again: TCP's first time-out is a second.
const AT_ONCE: Duration = Duration::from_millis(500);

/// That a probe is refused, and at once.
fn refused(what: &str, probe: impl FnOnce() -> Result<Outcome>) -> Result<()> {
    let start = Instant::now();
    assert_eq!(probe()?, Refused, "{what}");
    assert!(start.elapsed() < AT_ONCE, "{what}: only after {:?}", start.elapsed());
    Ok(())
}

fn is_told(client: &Namespace) -> Result<()> {
    assert_eq!(probe::tcp(client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(client, "2620:149::5", 443)?, Answered);
    for to in ["203.0.113.9", "17.1.2.3", "2001:db8:bad::1", "2620:149::5"] {
        refused(&format!("TCP to {to}"), || probe::tcp(client, to, 80))?;
        // Smaller and larger than the answer.
        for size in [1, 1000] {
            refused(&format!("{size} bytes by UDP to {to}"), || probe::udp(client, to, 123, size))?;
        }
    }
    Ok(())
}

/// Test runs show the bytes that `XDP_TX` would send.
#[test]
fn vlan_tags_stay() -> Result<()> {
    const TX: u32 = 3;
    let policy = Policy::parse("p", "default = \"reject\"\n", &Catalogs::default())?;
    let image = compile::compile(&policy, &Limits::default(), 1)?;
    let mut object = Object::load(&image, &lab_net(image.words)?)?;
    let ip = || -> Result<_> {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]);
        Ok(link.double_vlan(VlanId::try_new(7)?, VlanId::try_new(9)?).ipv4([10, 1, 0, 2], [17, 1, 2, 3], 64))
    };
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    ip()?.tcp(50_000, 80, 1, 1000).syn().write(&mut tcp, &[0; 40])?;
    ip()?.udp(50_000, 80).write(&mut udp, &[])?;
    for (frame, length) in [(tcp, 40), (udp, 56)] {
        let mut out = vec![0; 256];
        let options = TestRunOptions { data_in: Some(&frame), data_out: Some(&mut out), ..TestRunOptions::new() };
        let result = object.xdp("lan_xdp")?.test_run(options)?;
        assert_eq!((result.return_value, result.data_size_out), (TX, 22 + length));
        let macs = [&frame[6..12], &frame[..6]].concat();
        assert_eq!((&out[..12], &out[12..22]), (&macs[..], &frame[12..22]));
        let answer = SlicedPacket::from_ethernet(&out[..22 + length as usize])?;
        assert!(matches!(answer.net, Some(NetSlice::Ipv4(ip)) if ip.header().source() == [17, 1, 2, 3]));
    }
    Ok(())
}

#[test]
fn by_xdp() -> Result<()> {
    for mode in ["native", "generic"] {
        let lab = Lab::new()?;
        let _servers = Servers::start(&lab.internet, &[80, 443], &[123])?;
        let enforcer = Enforcer::start(&lab, POLICY, &format!("--lan lan0 --wan wan0 --xdp {mode}"))?;
        let _awake = awake(&lab.client, "eth0")?;
        is_told(&lab.client)?;
        enforcer.stop()?;
    }
    Ok(())
}

#[test]
fn by_tc_on_a_bridge() -> Result<()> {
    for way in ["tcx", "clsact"] {
        let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
        let _servers = Servers::start(&lab.internet, &[80, 443], &[123])?;
        let enforcer = Enforcer::start(&lab, POLICY, &format!("--lan br-lan --wan wan0 --tc {way}"))?;
        is_told(&lab.client)?;
        is_told(&lab.gateway)?;
        enforcer.stop()?;
    }
    Ok(())
}

#[test]
fn the_gateways_own_connections() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[123])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    is_told(&lab.gateway)?;
    enforcer.stop()
}

#[test]
fn a_real_curl_fails_at_once() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    let _awake = awake(&lab.client, "eth0")?;
    for url in ["http://203.0.113.9/", "http://[2001:db8:bad::1]/"] {
        let told = lab.client.output(&format!("curl -s -m 5 -o /dev/null -w %{{exitcode}}_%{{time_total}} {url}"))?;
        let (code, seconds) = told.split_once('_').unwrap_or_default();
        assert_eq!(code, "7", "curl could not connect: {told}");
        assert!(seconds.parse::<f64>()? < 0.05, "{url}: {told}");
    }
    enforcer.stop()
}

#[test]
fn fragments_are_not_answered() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    let _awake = awake(&lab.client, "eth0")?;
    // Larger than the link: its head is a fragment.
    assert_eq!(probe::udp(&lab.client, "203.0.113.9", 123, 3000)?, Silence);
    assert_eq!(probe::udp(&lab.client, "2001:db8:bad::1", 123, 3000)?, Silence);
    enforcer.stop()
}

/// Of a packet with another one in it, the kernel takes the inner transport header for its own, and
/// cuts off nothing before that.
#[test]
fn a_rejected_6in4_packet_is_answered_without_xdp() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0 --xdp off")?;
    let mac = |side: &Namespace, name: &str| -> Result<[u8; 6]> {
        let text = side.output(&format!("cat /sys/class/net/{name}/address"))?;
        let bytes = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>()?;
        bytes.try_into().map_err(|_| anyhow::anyhow!("no MAC: {text}"))
    };
    let (client, gateway) = (mac(&lab.client, "eth0")?, mac(&lab.gateway, "lan0")?);
    let socket = packets(&lab.client, "eth0")?;
    let sizes = [0, 1, 100, 1000];
    for size in sizes {
        let (mut inner, mut frame) = (Vec::new(), Vec::new());
        PacketBuilder::ipv6([0xfd; 16], [0x26; 16], 64).udp(5, 6).write(&mut inner, &vec![7; size])?;
        let outer = PacketBuilder::ethernet2(client, gateway).ipv4([10, 1, 0, 2], [203, 0, 113, 9], 64);
        outer.write(&mut frame, IpNumber::IPV6, &inner)?;
        socket.send(&frame)?;
    }
    std::thread::sleep(Duration::from_millis(300));
    let told = lab.client.output("nstat -asz IcmpInDestUnreachs")?;
    let answers = told.lines().find_map(|line| line.strip_prefix("IcmpInDestUnreachs")?.split_whitespace().next());
    assert_eq!((answers, enforcer.counters()?["default"]), (Some("4"), sizes.len() as u64), "{told}");
    enforcer.stop()
}

/// A NIC that hears everything must not speak for another router.
#[test]
fn a_frame_to_another_station_gets_no_answer() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    let _awake = awake(&lab.client, "eth0")?;
    lab.client.run("ip neigh replace 10.1.0.1 lladdr 02:99:00:00:00:01 dev eth0 nud permanent")?;
    assert_eq!(probe::tcp(&lab.client, "203.0.113.9", 443)?, Silence);
    lab.client.run("ip neigh del 10.1.0.1 dev eth0")?;
    assert_eq!(probe::tcp(&lab.client, "203.0.113.9", 443)?, Refused);
    enforcer.stop()
}

#[test]
fn frames_from_groups_get_no_answer() -> Result<()> {
    const DROP: u32 = 1;
    let policy = Policy::parse("p", "default = \"reject\"\nsources = \"any\"\n", &Catalogs::default())?;
    let image = compile::compile(&policy, &Limits::default(), 1)?;
    let mut object = Object::load(&image, &lab_net(image.words)?)?;
    for source in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let mut frame = Vec::new();
        let link = PacketBuilder::ethernet2(source, [2, 0, 0, 0, 0, 1]);
        link.ipv4([10, 1, 0, 2], [17, 1, 2, 3], 64).tcp(50_000, 80, 1, 1000).syn().write(&mut frame, &[])?;
        let options = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
        assert_eq!(object.xdp("lan_xdp")?.test_run(options)?.return_value, DROP, "{source:x?}");
    }
    Ok(())
}

/// Tests that measure time. No other test runs beside them.
mod serial {
    use super::*;

    #[test]
    fn a_flood_is_answered_only_so_often() -> Result<()> {
        let lab = Lab::new()?;
        let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
        let _awake = awake(&lab.client, "eth0")?;
        let received = || -> Result<u64> {
            Ok(lab.client.output("cat /sys/class/net/eth0/statistics/rx_packets")?.trim().parse()?)
        };
        let before = received()?;
        let sent = 20_000;
        let start = Instant::now();
        probe::udp_flood(&lab.client, "203.0.113.9", 123, sent)?;
        std::thread::sleep(Duration::from_millis(200));
        // A thousand at once and a thousand a second, on each of the CPUs that receive.
        let cpus = std::thread::available_parallelism()?.get() as f64;
        let most = (1000.0 + 1000.0 * start.elapsed().as_secs_f64()) * cpus + 100.0;
        let answers = received()? - before;
        assert!(
            answers > 0 && (answers as f64) < most.min(sent as f64 / 2.0),
            "{answers} answers to {sent} packets, more than {most}"
        );
        assert!(enforcer.counters()?["default"] >= sent);
        enforcer.stop()
    }
}
