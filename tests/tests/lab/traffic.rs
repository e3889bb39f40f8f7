//! Real sockets through the running product: what passes, what does not, and what is counted.

use anyhow::Result;
use enforcer_tests::lab::{
    Lab, POLICY, Plan, probe,
    probe::Outcome::{self, Answered, Silence},
    product::Enforcer,
    server::Servers,
};

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
    let _servers = Servers::start(&lab.internet, &[], &[123])?;
    // The client is a layer-3 core, too: a LAN lies behind it.
    lab.client.run("ip addr add 10.7.0.1/24 dev lo")?;
    lab.client.run("ip addr add 10.8.0.1/24 dev lo")?;
    lab.gateway.run("ip route add 10.7.0.0/24 via 10.1.0.2")?;
    lab.internet.run("ip route add 10.7.0.0/24 via 198.51.100.1")?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    let ping_from = |source: &str| lab.client.run(&format!("ping -c1 -W1 -I {source} 17.1.2.3")).is_ok();
    let time_from = |source: &str| probe::echo(&lab.client, source, "17.253.4.5", 123, 8);
    assert!(ping_from("10.7.0.1"));
    assert_eq!((time_from("10.7.0.1")?, time_from("10.1.0.2")?), (Answered, Answered));
    assert_eq!(enforcer.counters()?["source"], 0);
    assert!(!ping_from("10.8.0.1"));
    assert_eq!(time_from("10.8.0.1")?, Silence);
    assert_eq!(enforcer.counters()?["source"], 2);
    // In the gateway's own name.
    lab.client.run("ip addr add fd00:1::1/128 dev lo nodad")?;
    assert!(lab.client.run("ping -c1 -W1 -I fd00:1::1 2620:149::5").is_err());
    assert_eq!(enforcer.counters()?["source"], 3);
    // Routes that come and go while the controller runs are followed.
    lab.gateway.run("ip route add 10.8.0.0/24 via 10.1.0.2")?;
    lab.internet.run("ip route add 10.8.0.0/24 via 198.51.100.1")?;
    lab.gateway.run("ip route del 10.7.0.0/24")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(ping_from("10.8.0.1"));
    assert_eq!((time_from("10.8.0.1")?, time_from("10.1.0.2")?, time_from("10.7.0.1")?), (Answered, Answered, Silence));
    assert_eq!(enforcer.counters()?["source"], 4);
    // The kernel takes none of these for the LAN's, as there are better ones.
    for worse in [
        "10.1.0.0/24 via 198.51.100.2 metric 1000",
        "10.1.0.0/24 via 198.51.100.2 tos 0x10",
        "local 10.1.0.0/24 dev lo table 100",
        "blackhole 10.8.0.0/24 metric 254",
    ] {
        lab.gateway.run(&format!("ip route add {worse}"))?;
    }
    lab.gateway.run("ip route add unreachable 10.1.0.0/30")?;
    lab.gateway.run("ip -6 route add blackhole fd00:1::/64 metric 2048")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!((time_from("10.8.0.1")?, time_from("10.1.0.2")?), (Answered, Silence));
    lab.client.run("ping -c1 -W1 2620:149::5")?;
    lab.gateway.run("ip route del unreachable 10.1.0.0/30")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(time_from("10.1.0.2")?, Answered);
    // These would be the kernel's choice as much as the LAN's, which the operator is told.
    lab.gateway.run("ip route append 10.8.0.0/24 via 198.51.100.2")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let status = enforcer.ask("status")?;
    assert!(status.contains("lead to 10.8.0.0/24 by several interfaces"), "{status}");
    assert_eq!(time_from("10.8.0.1")?, Silence);
    enforcer.stop()
}

#[test]
fn what_only_a_table_of_rules_makes_local_is_judged_as_all_else() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[], &[123])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    // As for a transparent proxy, whose rules send it marked packets alone.
    lab.gateway.run("ip route add local 203.0.113.0/24 dev lo table 100")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let time_from = |server: &str| probe::echo(&lab.client, "10.1.0.2", server, 123, 8);
    assert_eq!((time_from("17.253.4.5")?, time_from("203.0.113.9")?), (Answered, Silence));
    assert_eq!(enforcer.counters()?["default"], 1);
    enforcer.stop()
}

#[test]
fn clients_of_one_lan_cannot_speak_as_those_of_another() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[], &[123])?;
    // The client is in both.
    lab.gateway.run(&format!("ip link add lan1 type veth peer name client1 netns {}", lab.client.name()))?;
    lab.gateway.run("ip addr add 10.2.0.1/24 dev lan1")?;
    lab.gateway.run("ip link set lan1 up")?;
    lab.client.run("ip addr add 10.2.0.2/24 dev client1")?;
    lab.client.run("ip link set client1 up")?;
    lab.internet.run("ip route add 10.2.0.0/24 via 198.51.100.1")?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --lan lan1 --wan wan0")?;
    let time_from = |source: &str| probe::echo(&lab.client, source, "17.253.4.5", 123, 8);
    assert_eq!((time_from("10.1.0.2")?, time_from("10.2.0.2")?), (Answered, Silence));
    lab.client.run("ip route add 17.253.4.5 via 10.2.0.1")?;
    assert_eq!((time_from("10.1.0.2")?, time_from("10.2.0.2")?), (Silence, Answered));
    assert_eq!(enforcer.counters()?["source"], 2);
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
        assert_eq!(enforcer.counters()?["source-route"], 1);
        assert_eq!(lab.internet.output("nstat -asz IpInReceives")?, before);
        assert_eq!(enforcer.log()?.contains("kernel: malformed frame: a source route"), told);
        enforcer.stop()?;
    }
    Ok(())
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
    let unmatched = "rules speak of names, which are not matched";
    assert!(enforcer.log()?.contains(unmatched));
    let applied = enforcer.command(&format!("apply {}", lab.path("policy.toml").display())).output()?;
    assert!(String::from_utf8(applied.stderr)?.contains(unmatched));
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
