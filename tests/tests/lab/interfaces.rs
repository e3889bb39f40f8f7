//! The interfaces that the product takes: how each kind is hooked, what happens when they change, and what is refused.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{
    Lab, POLICY, Plan, Wan, awake, probe,
    probe::Outcome::{Answered, Silence},
    product::Enforcer,
    server::Servers,
};

/// What each kind of hook must do alike.
fn judges_clients(lab: &Lab, arguments: &str) -> Result<Enforcer> {
    let _servers = Servers::start(&lab.internet, &[80, 443], &[123, 443])?;
    let enforcer = Enforcer::start(lab, POLICY, arguments)?;
    let client = &lab.client;
    assert_eq!(probe::tcp(client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(client, "2620:149::5", 443)?, Answered);
    assert_eq!(probe::udp(client, "17.253.4.5", 123, 48)?, Answered);
    assert_eq!(probe::udp(client, "2403:300::7", 123, 48)?, Answered);
    assert_eq!(probe::ping(client, "17.1.2.3"), Answered);
    assert_eq!(probe::ping(client, "2620:149::5"), Answered);
    // Wrong port, wrong protocol, wrong address.
    assert_eq!(probe::tcp(client, "17.1.2.3", 80)?, Silence);
    assert_eq!(probe::tcp(client, "2620:149::5", 80)?, Silence);
    assert_eq!(probe::udp(client, "17.1.2.3", 443, 48)?, Silence);
    assert_eq!(probe::udp(client, "17.1.2.3", 123, 48)?, Silence);
    assert_eq!(probe::tcp(client, "203.0.113.9", 443)?, Silence);
    assert_eq!(probe::tcp(client, "2001:db8:bad::1", 443)?, Silence);
    assert_eq!(probe::ping(client, "17.253.4.5"), Silence);
    // The gateway itself, and neighbours.
    assert_eq!(probe::ping(client, "10.1.0.1"), Answered);
    assert_eq!(probe::ping(client, "fd00:1::1"), Answered);
    assert_eq!(probe::ping(client, "198.51.100.1"), Answered);
    let counters = enforcer.counters()?;
    assert_eq!(counters["fault"], 0);
    assert_eq!(counters["malformed"], 0);
    assert_eq!(counters["source"], 0);
    Ok(enforcer)
}

#[test]
fn native_xdp_judges_clients() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = judges_clients(&lab, "--lan lan0 --wan wan0 --xdp native")?;
    assert!(enforcer.ask("status")?.contains("lan0 by native XDP"));
    // Programs that are attached nowhere cost no verifier's time.
    let set = fs::read_dir(lab.pins()?)?.filter_map(|entry| Some(entry.ok()?.path()));
    let set = set.filter(|path| path.to_string_lossy().contains("/set-")).max().context("no set")?;
    let has = |program: &str| set.join(program).exists();
    assert!(has("lan_xdp") && has("wan_egress") && !has("lan_xdp_frags") && !has("lan_ingress"), "{}", set.display());
    enforcer.stop()
}

#[test]
fn generic_xdp_judges_clients() -> Result<()> {
    let lab = Lab::new()?;
    judges_clients(&lab, "--lan lan0 --wan wan0 --xdp generic")?.stop()
}

#[test]
fn without_xdp_a_nic_is_judged_by_tcx() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = judges_clients(&lab, "--lan lan0 --wan wan0 --xdp off")?;
    assert!(enforcer.ask("status")?.contains("lan0 by TCX ingress"));
    enforcer.stop()
}

#[test]
fn a_nic_that_has_the_program_at_xdp_does_not_change_to_tcx_by_itself() -> Result<()> {
    let lab = Lab::new()?;
    Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0 --xdp native")?.stop()?;
    let refused =
        Enforcer::start_again(&lab, "--lan lan0 --wan wan0 --xdp off").err().context("it starts")?.to_string();
    assert!(refused.contains("lan0 has the program of the controller before by native XDP"), "{refused}");
    Ok(())
}

#[test]
fn a_bridge_is_judged_by_tcx_and_its_ports_keep_talking() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let enforcer = judges_clients(&lab, "--lan br-lan --wan wan0")?;
    assert!(enforcer.ask("status")?.contains("br-lan by TCX ingress"));
    assert_eq!(probe::ping(&lab.client, "10.1.0.3"), Answered);
    assert_eq!(probe::ping(&lab.client, "fd00:1::3"), Answered);
    enforcer.stop()
}

#[test]
fn the_ports_of_a_bridge_are_judged_by_xdp_and_share_a_zone() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let enforcer = judges_clients(&lab, "--lan port1 port2 --wan wan0 --xdp native")?;
    assert_eq!(probe::ping(&lab.neighbour, "10.1.0.2"), Answered);
    assert_eq!(probe::ping(&lab.neighbour, "17.1.2.3"), Answered);
    assert_eq!(probe::ping(&lab.neighbour, "17.253.4.5"), Silence);
    assert_eq!(enforcer.counters()?["source"], 0);
    enforcer.stop()
}

#[test]
fn a_wan_without_link_layer_judges_the_gateway_and_passes_clients() -> Result<()> {
    let lab = Lab::planned(Plan { wan: Wan::Tunnel, ..Plan::default() })?;
    let enforcer = judges_clients(&lab, "--lan lan0 --wan wan0")?;
    let before = enforcer.counters()?["router-default"];
    assert_eq!(probe::ping(&lab.gateway, "17.1.2.3"), Answered);
    assert_eq!(enforcer.counters()?["router-default"], before + 1);
    enforcer.stop()
}

#[test]
fn what_comes_in_by_an_interface_that_no_policy_covers_is_dropped_at_the_wan() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    // The first port leaves the bridge and becomes a network of its own, of which the product is not told.
    lab.gateway.run("ip link set port1 nomaster")?;
    lab.gateway.run("ip addr add 10.2.0.1/24 dev port1")?;
    lab.client.run("ip addr add 10.2.0.2/24 dev eth0")?;
    lab.client.run("ip route replace default via 10.2.0.1")?;
    lab.internet.run("ip route add 10.2.0.0/24 via 198.51.100.1")?;
    assert_eq!(probe::ping(&lab.client, "17.1.2.3"), Answered);
    let enforcer = Enforcer::start(&lab, POLICY, "--lan br-lan --wan wan0")?;
    assert_eq!(probe::ping(&lab.client, "17.1.2.3"), Silence);
    assert_eq!(enforcer.counters()?["unlisted"], 1);
    assert_eq!(probe::ping(&lab.neighbour, "17.1.2.3"), Answered);
    enforcer.stop()
}

#[test]
fn an_interface_that_is_made_again_is_judged_again() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    for _ in 0..2 {
        lab.gateway.run("ip link del lan0")?;
        lab.connect_client()?;
        thread::sleep(Duration::from_secs(1));
        assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
        assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
        assert_eq!(enforcer.counters()?["unlisted"], 0);
    }
    lab.gateway.run("ip link del lan0")?;
    thread::sleep(Duration::from_secs(1));
    assert!(enforcer.ask("status")?.contains("lan0 is gone"));
    enforcer.stop()
}

/// Indices of the interfaces that programs are pinned for.
fn hooked(pins: &Path) -> Result<BTreeSet<String>> {
    let names = fs::read_dir(pins.join("links"))?.filter_map(|pin| pin.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| Some(name.split_once('-')?.0.to_owned())).collect())
}

/// What a process has taken of CPUs.
fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which is in parentheses, user and system time are the 12th and 13th, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit_once(") ").context("no name")?.1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[test]
fn a_bridge_with_an_open_port_and_a_nic_with_devices_on_it_are_refused() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let refused = |arguments: &str| {
        Enforcer::start(&lab, POLICY, arguments).err().map_or_else(String::new, |error| error.to_string())
    };
    assert!(refused("--lan port1 --wan wan0").contains("br-lan has ports that are no --lan: port2"));
    lab.gateway.run("ip link add link br-lan name part0 type macvlan")?;
    assert!(refused("--lan br-lan --wan wan0").contains("br-lan also carries part0"));
    Ok(())
}

#[test]
fn a_port_that_joins_a_bridge_later_is_not_trusted() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    lab.gateway.run("ip link set port2 nomaster")?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan port1 --wan wan0")?;
    assert_eq!(probe::ping(&lab.client, "17.1.2.3"), Answered);
    lab.gateway.run("ip link set port2 master br-lan")?;
    thread::sleep(Duration::from_secs(1));
    assert_eq!(probe::ping(&lab.neighbour, "17.1.2.3"), Silence);
    assert!(enforcer.counters()?["unlisted"] > 0);
    assert!(enforcer.ask("status")?.contains("WARNING"));
    enforcer.stop()
}

#[test]
fn filters_of_tc_still_see_what_goes_on() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    for command in [
        "tc qdisc add dev wan0 clsact",
        "tc filter add dev wan0 ingress protocol ip u32 match u32 0 0 action mirred ingress mirror dev lo",
        "tc filter add dev wan0 egress protocol ip u32 match u32 0 0 action mirred ingress mirror dev lo",
    ] {
        lab.gateway.run(command)?;
    }
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    for side in ["ingress", "egress"] {
        let shown = lab.gateway.output(&format!("tc -s filter show dev wan0 {side}"))?;
        assert!(shown.contains("pkt (") && !shown.contains("Sent 0 bytes"), "{side}: {shown}");
    }
    enforcer.stop()
}

#[test]
fn a_second_controller_and_mistaken_arguments_are_refused_and_change_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let refused = |policy: &str, arguments: &str| {
        Enforcer::start(&lab, policy, arguments).err().map_or_else(String::new, |error| error.to_string())
    };
    assert!(refused("default = \"dorp\"", "--lan lan0").contains("policy.toml:1:11"));
    for name in ["lan/0", "lan:0", "..", "lan0123456789012"] {
        let never = refused(POLICY, &format!("--lan lan0 {name}"));
        assert!(never.contains("cannot be the name of an interface") && never.contains("exit status: 2"), "{never}");
    }
    let twice = refused(POLICY, "--lan lan0 --wan lan0");
    // systemd tries no such words again.
    assert!(twice.contains("named twice") && twice.contains("exit status: 2"), "{twice}");
    assert!(refused(POLICY, "--lan lo").contains("lo carries the gateway's own traffic"));
    lab.file("socket", "something of the operator's")?;
    assert!(refused(POLICY, "--lan lan0").contains("is no socket"));
    fs::remove_file(lab.path("socket"))?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Answered);
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    assert!(refused(POLICY, "--lan lan0 --wan wan0").contains("another controller answers"));
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
    enforcer.stop()
}

#[test]
fn another_program_on_a_lan_is_named_and_stays() -> Result<()> {
    let lab = Lab::new()?;
    // The gateway's end of the cable, as whoever was there first.
    let mut other = awake(&lab.gateway, "lan0")?;
    let id = other.xdp("lan_xdp")?.info()?.id();
    let refused = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0").err().context("it starts")?.to_string();
    assert!(refused.contains(&format!("XDP program {id} (lan_xdp)")) && refused.contains("detach it"), "{refused}");
    assert!(lab.gateway.output("ip -d link show lan0")?.contains(&format!("prog/xdp id {id} ")));
    assert!(!lab.pins()?.exists() && !lab.path("state").exists(), "a start that failed leaves something");
    Ok(())
}

/// Such frames are in several buffers by the time XDP sees them: the program for frames in one is refused.
#[test]
fn jumbo_frames_are_judged_by_the_program_for_several_buffers() -> Result<()> {
    let lab = Lab::new()?;
    for (side, name) in
        [(&lab.client, "eth0"), (&lab.gateway, "lan0"), (&lab.gateway, "wan0"), (&lab.internet, "inet0")]
    {
        side.run(&format!("ip link set {name} mtu 9000"))?;
    }
    let _servers = Servers::start(&lab.internet, &[], &[123, 124])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0 --xdp native")?;
    assert!(lab.gateway.output("ip -d link show lan0")?.contains("name lan_xdp_frags"));
    let size = 8900;
    for (server, port, outcome) in [
        ("17.253.4.5", 123, Answered),
        ("2403:300::7", 123, Answered),
        ("17.253.4.5", 124, Silence),
        ("2403:300::7", 124, Silence),
        ("203.0.113.9", 123, Silence),
        ("2001:db8:bad::1", 123, Silence),
    ] {
        assert_eq!(probe::udp(&lab.client, server, port, size)?, outcome, "{size} bytes to {server}, port {port}");
    }
    let counters = enforcer.counters()?;
    assert_eq!((counters["apple/time"], counters["default"], counters["malformed"]), (2, 4, 0));
    // All buffers count: Ethernet, IPv4 or IPv6, UDP, and what was sent.
    let bytes = (14 + 20 + 8 + size) + (14 + 40 + 8 + size);
    let told = enforcer.ask("counters --json")?;
    assert!(told.contains(&format!("\"packets\":2,\"bytes\":{bytes}}}")), "{told}");
    // Three fragments, each in several buffers, too.
    assert_eq!(probe::udp(&lab.client, "17.253.4.5", 123, 20_000)?, Answered);
    assert_eq!(enforcer.counters()?["apple/time"], 2 + 3);
    enforcer.stop()
}

/// Tests that measure time. No other test runs beside them.
mod serial {
    use super::*;

    #[test]
    fn links_that_flap_do_not_keep_the_controller_busy() -> Result<()> {
        let lab = Lab::new()?;
        let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
        let cpu = || cpu_time(enforcer.pid());
        let (before, start) = (cpu()?, Instant::now());
        let mut changes = 0;
        let batch = lab.file("flap", &"link add flap0 type bridge\nlink del flap0\n".repeat(50))?;
        while start.elapsed() < Duration::from_secs(3) {
            lab.gateway.run(&format!("ip -batch {}", batch.display()))?;
            changes += 100;
        }
        let share = (cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
        println!("{changes} changes in {:?}: {:.1} % of a CPU", start.elapsed(), share * 100.0);
        assert!(share < 0.25, "{share}");
        // And it is still heard.
        lab.gateway.run("ip link del lan0")?;
        lab.connect_client()?;
        thread::sleep(Duration::from_secs(1));
        assert!(enforcer.log()?.contains("lan0 is back"), "{}", enforcer.log()?);
        enforcer.stop()
    }

    #[test]
    fn an_interface_that_goes_and_comes_within_a_burst_is_hooked_at_once() -> Result<()> {
        let lab = Lab::new()?;
        let pins = lab.pins()?;
        let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
        let mut times = Vec::new();
        for _ in 0..10 {
            let before = hooked(&pins)?;
            lab.gateway.run("ip link del lan0")?;
            lab.gateway.run("ip link add lan0 type veth peer name far0")?;
            let start = Instant::now();
            while hooked(&pins)?.is_subset(&before) {
                assert!(start.elapsed() < Duration::from_secs(5), "no program is on it: {}", enforcer.log()?);
                thread::sleep(Duration::from_millis(1));
            }
            times.push(start.elapsed());
        }
        times.sort_unstable();
        println!("without a program behind `ip link add`: {times:?}");
        // Most of it is the kernel's, which waits for its CPUs.
        assert!(times[times.len() / 2] < Duration::from_millis(100), "{times:?}");
        enforcer.stop()
    }
}
