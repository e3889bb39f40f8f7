//! Real sockets through the running product: what passes, what does not, and what is counted.

use anyhow::Result;
use enforcer_tests::lab::{
    Lab, Plan, Wan, probe,
    probe::Outcome::{self, Answered, Silence},
    product::Enforcer,
    server::Servers,
};

const POLICY: &str = r#"
default = "drop"

[[service]]
name = "web"
to = ["17.0.0.0/8", "2620:149::/32"]
ports = ["tcp/443"]

[[service]]
name = "time"
to = ["17.253.0.0/16", "2403:300::7"]
ports = ["udp/123"]

[[service]]
name = "ping"
to = ["17.1.2.3", "2620:149::5"]
ports = ["icmp/8", "icmpv6/128"]

[[rule]]
name = "apple"
action = "allow"
services = ["web", "time", "ping"]
"#;

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
    enforcer.stop()
}

#[test]
fn generic_xdp_judges_clients() -> Result<()> {
    let lab = Lab::new()?;
    judges_clients(&lab, "--lan lan0 --wan wan0 --xdp generic")?.stop()
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
fn counters_are_exact() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[], &[123])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    for _ in 0..7 {
        assert_eq!(probe::udp(&lab.client, "17.253.4.5", 123, 48)?, Answered);
    }
    for _ in 0..3 {
        assert_eq!(probe::udp(&lab.client, "203.0.113.9", 123, 48)?, Silence);
    }
    for _ in 0..2 {
        assert_eq!(probe::ping(&lab.client, "2620:149::5"), Answered);
    }
    let counters = enforcer.counters()?;
    assert_eq!((counters["apple/time"], counters["default"], counters["apple/ping"]), (7, 3, 2));
    enforcer.stop()
}

#[test]
fn a_rule_by_client_address_holds_behind_masquerading() -> Result<()> {
    let lab = Lab::planned(Plan { nat: true, bridged: true, ..Plan::default() })?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let policy = r#"
default = "drop"
[[service]]
name = "web"
to = ["17.0.0.0/8"]
ports = ["tcp/443"]
[[rule]]
action = "allow"
services = ["web"]
from = ["10.1.0.2"]
"#;
    let enforcer = Enforcer::start(&lab, policy, "--lan br-lan --wan wan0")?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.neighbour, "17.1.2.3", 443)?, Silence);
    // Judged once: what the WAN sees after NAT is not counted again.
    assert_eq!(enforcer.counters()?["router-default"], 0);
    enforcer.stop()
}

#[test]
fn connections_from_outside_to_the_gateway_and_to_a_forwarded_port_work() -> Result<()> {
    let lab = Lab::planned(Plan { nat: true, ..Plan::default() })?;
    let _ssh = Servers::start(&lab.gateway, &[22], &[])?;
    let _forwarded = Servers::start(&lab.client, &[22, 23], &[])?;
    let policy = r#"
default = "drop"
[[service]]
name = "ssh"
to = ["10.1.0.2"]
ports = ["tcp/22"]
[inbound]
[[inbound.rule]]
action = "allow"
services = ["ssh"]
"#;
    let enforcer = Enforcer::start(&lab, policy, "--lan lan0 --wan wan0")?;
    assert_eq!(probe::tcp(&lab.internet, "198.51.100.1", 22)?, Answered);
    assert_eq!(probe::tcp(&lab.internet, "198.51.100.1", 2222)?, Answered);
    assert!(enforcer.counters()?["reply"] > 0);
    // The server may answer, but not begin.
    assert_eq!(probe::tcp(&lab.client, "198.51.100.2", 22)?, Silence);
    enforcer.stop()
}

#[test]
fn replies_pass_only_where_an_inbound_rule_names_them() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.client, &[22, 23], &[])?;
    let policy = r#"
default = "drop"
[[service]]
name = "ssh"
to = ["10.1.0.2"]
ports = ["tcp/22"]
[inbound]
[[inbound.rule]]
action = "allow"
services = ["ssh"]
"#;
    let enforcer = Enforcer::start(&lab, policy, "--lan lan0 --wan wan0")?;
    assert_eq!(probe::tcp(&lab.internet, "10.1.0.2", 22)?, Answered);
    assert_eq!(probe::tcp(&lab.internet, "10.1.0.2", 23)?, Silence);
    enforcer.stop()
}

#[test]
fn a_router_policy_judges_the_gateways_own_packets_and_inbound_rules_keep_ssh() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let _ssh = Servers::start(&lab.gateway, &[22, 23], &[])?;
    let policy = r#"
default = "drop"
[[service]]
name = "web"
to = ["17.0.0.0/8", "2620:149::/32"]
ports = ["tcp/443"]
[[service]]
name = "ssh"
to = ["198.51.100.1", "2001:db8:ffff::1"]
ports = ["tcp/22"]
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
    let enforcer = Enforcer::start(&lab, policy, "--lan lan0 --wan wan0")?;
    assert_eq!(probe::tcp(&lab.gateway, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.gateway, "203.0.113.9", 443)?, Silence);
    // The gateway must tell its neighbour where it is, at whatever address that asks from.
    lab.internet.run("ip neigh flush dev inet0")?;
    lab.gateway.run("ip neigh flush dev wan0")?;
    assert_eq!(probe::tcp(&lab.internet, "2001:db8:ffff::1", 22)?, Answered);
    assert_eq!(probe::tcp(&lab.gateway, "2620:149::5", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.internet, "198.51.100.1", 22)?, Answered);
    assert_eq!(probe::tcp(&lab.internet, "198.51.100.1", 23)?, Silence);
    enforcer.stop()
}

#[test]
fn fragments_follow_their_allowed_head_and_orphans_do_not_pass() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[], &[123])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    assert_eq!(probe::udp(&lab.client, "17.253.4.5", 123, 5000)?, Answered);
    assert_eq!(probe::udp(&lab.client, "2403:300::7", 123, 5000)?, Answered);
    let counters = enforcer.counters()?;
    assert_eq!((counters["apple/time"], counters["fragment"]), (8, 0));
    assert_eq!(probe::udp(&lab.client, "203.0.113.9", 123, 5000)?, Silence);
    let counters = enforcer.counters()?;
    assert_eq!((counters["default"], counters["fragment"]), (1, 3));
    enforcer.stop()
}

#[test]
fn a_forged_source_is_refused_and_a_routed_lan_behind_the_client_is_not() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    // The client is a layer-3 core, too: a LAN lies behind it.
    lab.client.run("ip addr add 10.7.0.1/24 dev lo")?;
    lab.client.run("ip addr add 10.8.0.1/24 dev lo")?;
    lab.gateway.run("ip route add 10.7.0.0/24 via 10.1.0.2")?;
    lab.internet.run("ip route add 10.7.0.0/24 via 198.51.100.1")?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    let ping_from = |source: &str| lab.client.run(&format!("ping -c1 -W1 -I {source} 17.1.2.3")).is_ok();
    assert!(ping_from("10.7.0.1"));
    assert_eq!(enforcer.counters()?["source"], 0);
    assert!(!ping_from("10.8.0.1"));
    assert_eq!(enforcer.counters()?["source"], 1);
    // In the gateway's own name.
    lab.client.run("ip addr add fd00:1::1/128 dev lo nodad")?;
    assert!(lab.client.run("ping -c1 -W1 -I fd00:1::1 2620:149::5").is_err());
    assert_eq!(enforcer.counters()?["source"], 2);
    // A route that comes while the controller runs is followed.
    lab.gateway.run("ip route add 10.8.0.0/24 via 10.1.0.2")?;
    lab.internet.run("ip route add 10.8.0.0/24 via 198.51.100.1")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(ping_from("10.8.0.1"));
    enforcer.stop()
}

#[test]
fn a_source_route_is_refused_and_diagnosed_on_request() -> Result<()> {
    // Whatever the policy says of other malformed frames.
    let lax = format!("malformed = \"allow\"\n{POLICY}");
    for (policy, arguments, told) in [(POLICY, "--diagnose", true), (POLICY, "", false), (&lax, "--diagnose", true)] {
        let lab = Lab::new()?;
        let on = "net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.lan0.accept_source_route=1";
        lab.gateway.run(&format!("sysctl -qw {on}"))?;
        let before = lab.internet.output("nstat -asz IpInReceives")?;
        let enforcer = Enforcer::start(&lab, policy, &format!("--lan lan0 --wan wan0 {arguments}"))?;
        probe::source_routed(&lab.client, "17.253.4.5", 123)?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(enforcer.counters()?["malformed"], 1);
        assert_eq!(lab.internet.output("nstat -asz IpInReceives")?, before);
        assert_eq!(enforcer.log()?.contains("kernel: malformed frame: a source route"), told);
        enforcer.stop()?;
    }
    Ok(())
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
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
        assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
        assert_eq!(enforcer.counters()?["unlisted"], 0);
    }
    lab.gateway.run("ip link del lan0")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(enforcer.ask("status")?.contains("lan0 is gone"));
    enforcer.stop()
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
    std::thread::sleep(std::time::Duration::from_secs(1));
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
fn icmp_errors_pass_about_connections_that_may_be() -> Result<()> {
    let cases = [(Plan::default(), "lan0"), (Plan { bridged: true, ..Plan::default() }, "br-lan")];
    for (plan, lan) in cases {
        let lab = Lab::planned(plan)?;
        let enforcer = Enforcer::start(&lab, POLICY, &format!("--lan {lan} --wan wan0"))?;
        // Late packets of servers that the policy allows, and of others: nobody listens any more, and the client says so.
        let told = |server, port, client| probe::udp_from(&lab.internet, (server, port), (client, 5555));
        assert_eq!(told("17.253.4.5", 123, "10.1.0.2")?, Outcome::Refused);
        assert_eq!(told("2403:300::7", 123, "fd00:1::2")?, Outcome::Refused);
        assert_eq!(enforcer.counters()?["icmp-error"], 2);
        assert_eq!(told("17.253.4.5", 124, "10.1.0.2")?, Silence);
        assert_eq!(told("203.0.113.9", 123, "10.1.0.2")?, Silence);
        assert_eq!(told("2001:db8:bad::1", 123, "fd00:1::2")?, Silence);
        assert_eq!(enforcer.counters()?["icmp-error"], 2);
        enforcer.stop()?;
    }
    Ok(())
}

#[test]
fn a_service_of_the_catalogue_is_enforced_by_its_addresses() -> Result<()> {
    let lab = Lab::new()?;
    lab.internet.run("ip addr add 17.249.0.9 dev lo")?;
    let _servers = Servers::start(&lab.internet, &[5223], &[])?;
    let policy = "default = \"drop\"\n[[rule]]\nname = \"push\"\naction = \"allow\"\nservices = [\"apple/apns\"]\n";
    let enforcer = Enforcer::start(&lab, policy, "--lan lan0 --wan wan0")?;
    assert_eq!(probe::tcp(&lab.client, "17.249.0.9", 5223)?, Answered);
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 5223)?, Silence);
    assert!(enforcer.counters()?["push/apple/apns"] > 0);
    assert!(enforcer.log()?.contains("apple/apns: 1 names are no addresses yet"));
    enforcer.stop()
}

#[test]
fn ipv4_link_local_addresses_are_no_way_out() -> Result<()> {
    let lab = Lab::new()?;
    lab.internet.run("ip addr add 169.254.169.254 dev lo")?;
    assert_eq!(probe::ping(&lab.client, "169.254.169.254"), Answered);
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    assert_eq!(probe::ping(&lab.client, "169.254.169.254"), Silence);
    assert_eq!(enforcer.counters()?["default"], 1);
    enforcer.stop()
}

#[test]
fn stopping_detaches_and_everything_passes_again() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80], &[])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
    enforcer.stop()?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Answered);
    assert!(!lab.path("socket").exists());
    Ok(())
}

#[test]
fn a_second_controller_and_mistaken_arguments_are_refused_and_change_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let refused = |policy: &str, arguments: &str| {
        Enforcer::start(&lab, policy, arguments).err().map_or_else(String::new, |error| error.to_string())
    };
    assert!(refused("default = \"dorp\"", "--lan lan0").contains("policy.toml:1:11"));
    assert!(refused(POLICY, "--lan nosuch0").contains("no interface is called \"nosuch0\""));
    assert!(refused(POLICY, "--lan lan0 --wan lan0").contains("named twice"));
    assert!(refused(POLICY, "--lan lo").contains("lo carries the gateway's own traffic"));
    lab.file("socket", "something of the operator's")?;
    assert!(refused(POLICY, "--lan lan0").contains("is no socket"));
    std::fs::remove_file(lab.path("socket"))?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Answered);
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    assert!(refused(POLICY, "--lan lan0 --wan wan0").contains("another controller answers"));
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 80)?, Silence);
    enforcer.stop()
}
