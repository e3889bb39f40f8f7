//! Names from what other resolvers answer to clients: a real dnsmasq on the gateway, resolvers beyond the WAN, and those who forge.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use enforcer_tests::lab::{
    Lab, Namespace, Plan,
    dns::{self, A, AAAA, PATIENCE, TXT},
    names::{known, wait},
    probe::{self, Outcome::*},
    product::Enforcer,
    resolver::Resolver,
    server::Servers,
};
use serde_json::Value;

const POLICY: &str = r#"
default = "drop"

[[service]]
name = "web"
to = ["*.fresh.lab.example", "*.wild.lab.example", "www.lab.example"]
ports = ["tcp/443"]

[[rule]]
name = "names"
action = "allow"
services = ["web"]
"#;

/// Resolvers beyond the WAN, which clients may ask.
const RESOLVERS: &str = r#"
[[service]]
name = "resolvers"
to = ["17.1.2.3", "2620:149::5"]
ports = ["udp/53", "tcp/53"]

[[rule]]
name = "resolvers"
action = "allow"
services = ["resolvers"]
"#;

/// Names with addresses of their own.
const FRESH: u32 = 5;

/// Lines of dnsmasq's for those names.
fn fresh(lab: &Lab) -> Result<String> {
    for local in ["203.0.113.0/24", "203.0.114.0/24", "2001:db8:cd::/64", "2001:db8::/64"] {
        lab.internet.run(&format!("ip route add local {local} dev lo"))?;
    }
    let mut lines = "edns-packet-max=4096\n".to_owned();
    for number in 1..=FRESH {
        writeln!(lines, "host-record=n{number}.fresh.lab.example,203.0.114.{number},2001:db8:cd::{number:x}")?;
    }
    Ok(lines)
}

/// dnsmasq on the gateway's own addresses.
fn on_gateway(lab: &Lab) -> Result<Resolver> {
    Resolver::dnsmasq_in(lab, &lab.gateway, "10.1.0.1", &format!("{}listen-address=fd00:1::1\n", fresh(lab)?))
}

fn start(lab: &Lab, policy: &str, lans: &str, resolvers: &[&str], upstream: &str) -> Result<Enforcer> {
    let mut arguments = format!("--lan {lans} --wan wan0 --dns-upstream {upstream}");
    for resolver in resolvers {
        write!(arguments, " --dns-snoop {resolver}")?;
    }
    Enforcer::start(lab, policy, &arguments)
}

/// How often answers had some outcome.
fn outcome(enforcer: &Enforcer, outcome: &str) -> Result<u64> {
    let status: Value = serde_json::from_str(&enforcer.ask("status --json")?)?;
    status["names"]["snooped"][outcome].as_u64().with_context(|| format!("no {outcome} in {status}"))
}

/// Connects; a second SYN may follow a lost one, a third not.
fn connects(client: &Namespace, address: &str) -> Result<bool> {
    let address = SocketAddr::new(address.parse()?, 443);
    client.enter(|| Ok(TcpStream::connect_timeout(&address, Duration::from_millis(2500)).is_ok()))
}

/// Asks for all fresh names, and connects to each address.
fn learns(lab: &Lab, enforcer: &Enforcer, servers: [&str; 2]) -> Result<()> {
    for number in 1..=FRESH {
        let name = format!("n{number}.fresh.lab.example");
        let addresses = [format!("203.0.114.{number}"), format!("2001:db8:cd::{number:x}")];
        for (kind, (server, address)) in [A, AAAA].into_iter().zip(servers.iter().zip(&addresses)) {
            if number == 1 {
                assert_eq!(probe::tcp(&lab.client, address, 443)?, Silence, "{address}, before it is known");
            }
            let (server, query) = (SocketAddr::new(server.parse()?, 53), dns::query(&name, kind));
            let answer = lab.client.enter(|| dns::ask_udp(server, &query, PATIENCE))?.context("no answer")?;
            assert_eq!(dns::rcode(&answer), 0);
            assert!(connects(&lab.client, address)?, "{address}");
        }
        assert_eq!(
            known(enforcer, &name)?,
            [format!("{name} {} snooped live", addresses[0]), format!("{name} {} snooped live", addresses[1])]
        );
    }
    let early = enforcer.counters()?["default"] - 2;
    println!("{early} first packets of {} came before their address", FRESH * 2);
    assert_eq!(outcome(enforcer, "taken")?, u64::from(FRESH) * 2);
    for none in ["lost", "unasked", "forged", "malformed", "fragmented", "tcp", "truncated", "too_long", "over_limit"] {
        assert_eq!(outcome(enforcer, none)?, 0, "{none}");
    }
    Ok(())
}

/// A gateway that has its own dnsmasq, with clients behind these interfaces.
fn learns_of_the_gateways_own(plan: Plan, lans: &str) -> Result<()> {
    let lab = Lab::planned(plan)?;
    let _resolver = on_gateway(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let own = ["10.1.0.1", "fd00:1::1"];
    let enforcer = start(&lab, POLICY, lans, &own, "10.1.0.1:53")?;
    learns(&lab, &enforcer, own)?;
    // Exact names are asked for ahead, and what is known outlives a restart, as with a server of the product's own.
    wait("an exact name is known", || Ok(known(&enforcer, "www.lab.example")?.len() == 2))?;
    enforcer.stop()?;
    let enforcer = start(&lab, POLICY, lans, &own, "10.1.0.1:53")?;
    assert_eq!(known(&enforcer, "n1.fresh.lab.example")?[0], "n1.fresh.lab.example 203.0.114.1 restored live");
    assert_eq!(probe::tcp(&lab.client, "203.0.114.1", 443)?, Answered);
    enforcer.stop()
}

#[test]
fn what_the_gateways_dnsmasq_answers_opens_behind_a_nic() -> Result<()> {
    learns_of_the_gateways_own(Plan::default(), "lan0 --xdp native")
}

#[test]
fn what_the_gateways_dnsmasq_answers_opens_behind_a_bridge() -> Result<()> {
    learns_of_the_gateways_own(Plan { bridged: true, ..Plan::default() }, "br-lan")
}

#[test]
fn what_the_gateways_dnsmasq_answers_opens_where_there_is_no_tcx() -> Result<()> {
    learns_of_the_gateways_own(Plan { bridged: true, ..Plan::default() }, "br-lan --tc clsact")
}

#[test]
fn what_the_gateways_dnsmasq_answers_opens_behind_a_bridges_ports() -> Result<()> {
    learns_of_the_gateways_own(Plan { bridged: true, ..Plan::default() }, "port1 port2 --xdp native")
}

#[test]
fn what_a_resolver_beyond_the_wan_answers_opens() -> Result<()> {
    let lab = Lab::planned(Plan { nat: true, ..Plan::default() })?;
    let more = format!("{}listen-address=2620:149::5\n", fresh(&lab)?);
    let _resolver = Resolver::dnsmasq_with(&lab, "17.1.2.3", &more)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let external = ["17.1.2.3", "2620:149::5"];
    let enforcer = start(&lab, &format!("{POLICY}{RESOLVERS}"), "lan0", &external, "17.1.2.3:53")?;
    learns(&lab, &enforcer, external)?;
    let status = enforcer.ask("status")?;
    assert!(status.contains("10 answers of 17.1.2.3, 2620:149::5; 0 lost"), "{status}");
    assert!(!status.contains("DNS queries"), "{status}");
    enforcer.stop()
}

/// A socket of somebody's.
fn socket(place: &Namespace, address: &str, port: u16) -> Result<UdpSocket> {
    let address = SocketAddr::new(address.parse()?, port);
    place.enter(|| dns::bind(address))
}

/// A client's query that is under way, and its true answer.
struct Asked {
    port: u16,
    query: Vec<u8>,
    answer: Vec<u8>,
}

/// Sends a query from a client of this address to a resolver that waits for it.
fn ask(client: &Namespace, address: &str, resolver: &UdpSocket, name: &str) -> Result<Asked> {
    let from = socket(client, address, 0)?;
    let query = dns::query(name, A);
    from.send_to(&query, resolver.local_addr()?)?;
    resolver.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut buffer = [0; 512];
    loop {
        let length = resolver.recv(&mut buffer).context("the query does not arrive")?;
        if buffer[..length] == query[..] {
            break;
        }
    }
    let answer = dns::answer(&query, A, 300, &[203, 0, 113, 50]);
    Ok(Asked { port: from.local_addr()?.port(), query, answer })
}

/// Clients can send to each other by way of the gateway, in the name of whoever they like.
fn let_forge(lab: &Lab) -> Result<()> {
    lab.gateway.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.br-lan.rp_filter=0")?;
    let own = lab.gateway.output("ip -6 -o addr show dev br-lan scope link")?;
    let own = own.split_whitespace().find_map(|word| word.strip_suffix("/64")).context("no link-local address")?;
    for command in [
        "ip addr add 17.1.2.3/32 dev lo",
        "ip route add 10.1.0.2/32 via 10.1.0.1",
        "ip addr add fd00:1::1/128 dev lo nodad",
        &format!("ip -6 route add fd00:1::2/128 via {own} dev eth0"),
    ] {
        lab.neighbour.run(command)?;
    }
    Ok(())
}

#[test]
fn an_answer_that_is_not_the_resolvers_to_the_very_query_teaches_nothing() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let resolver = socket(&lab.internet, "17.1.2.3", 53)?;
    let policy = format!("sources = \"any\"\n{POLICY}{RESOLVERS}");
    let trusted = ["17.1.2.3", "10.1.0.1", "fd00:1::1"];
    let enforcer = start(&lab, &policy, "br-lan", &trusted, "17.253.4.5:53")?;
    let_forge(&lab)?;
    let asked = ask(&lab.client, "10.1.0.2", &resolver, "a.wild.lab.example")?;
    let client = ("10.1.0.2", asked.port);
    let changed = |at: usize, value: u8| {
        let mut message = asked.answer.clone();
        message[at] ^= value;
        message
    };
    let other = dns::answer(&[&asked.query[..2], &dns::query("b.wild.lab.example", A)[2..]].concat(), A, 300, &[1; 4]);
    let stranger = socket(&lab.internet, "203.0.113.9", 53)?;
    let other_port = socket(&lab.internet, "17.1.2.3", 54)?;
    let forger = socket(&lab.neighbour, "17.1.2.3", 53)?;
    // Whence, what, where to, and how it is counted.
    let forged = [
        ("a neighbour in the resolver's name", &forger, asked.answer.clone(), client, Some("forged")),
        ("another address", &stranger, asked.answer.clone(), client, None),
        ("another source port", &other_port, asked.answer.clone(), client, None),
        ("another id", &resolver, changed(0, 1), client, Some("unasked")),
        ("another port", &resolver, asked.answer.clone(), ("10.1.0.2", asked.port ^ 1), Some("unasked")),
        ("another client", &resolver, asked.answer.clone(), ("10.1.0.3", asked.port), Some("unasked")),
        ("another question", &resolver, other, client, Some("unasked")),
        ("a query", &resolver, changed(2, 0x80), client, Some("malformed")),
        ("noise", &resolver, vec![0x55; 600], client, Some("malformed")),
    ];
    for (what, from, message, to, counted) in forged {
        let before = counted.map(|counted| outcome(&enforcer, counted)).transpose()?;
        from.send_to(&message, SocketAddr::new(to.0.parse()?, to.1))?;
        if let (Some(counted), Some(before)) = (counted, before) {
            wait(what, || Ok(outcome(&enforcer, counted)? == before + 1))?;
        }
        thread::sleep(Duration::from_millis(100));
        assert_eq!(known(&enforcer, "*.wild.lab.example")?, [""; 0], "{what}");
    }
    assert_eq!(outcome(&enforcer, "taken")?, 0);
    // The true one counts, in any case of its letters, and once.
    let mut answer = asked.answer.clone();
    answer[13..14].make_ascii_uppercase();
    for _ in 0..2 {
        resolver.send_to(&answer, SocketAddr::new(client.0.parse()?, client.1))?;
    }
    wait(
        "learned",
        || Ok(known(&enforcer, "*.wild.lab.example")? == ["a.wild.lab.example 203.0.113.50 snooped live"]),
    )?;
    wait("the second is none", || Ok(outcome(&enforcer, "unasked")? == 5))?;
    assert_eq!(outcome(&enforcer, "taken")?, 1);

    // To the gateway's resolver: a neighbour answers in its name.
    let own = socket(&lab.gateway, "fd00:1::1", 53)?;
    let asked = ask(&lab.client, "fd00:1::2", &own, "c.wild.lab.example")?;
    let client = SocketAddr::new("fd00:1::2".parse()?, asked.port);
    socket(&lab.neighbour, "fd00:1::1", 53)?.send_to(&asked.answer, client)?;
    wait("forged", || Ok(outcome(&enforcer, "forged")? == 2))?;
    assert_eq!(known(&enforcer, "c.wild.lab.example")?, [""; 0]);
    own.send_to(&asked.answer, client)?;
    wait("learned", || Ok(known(&enforcer, "c.wild.lab.example")?.len() == 1))?;
    enforcer.stop()
}

#[test]
fn what_is_heard_lets_addresses_end_though_enforcers_own_resolver_is_silent() -> Result<()> {
    let lab = Lab::new()?;
    let own = socket(&lab.gateway, "10.1.0.1", 53)?;
    // Nobody answers there.
    let policy = format!("{POLICY}\n[names]\nfloor = 12\nceiling = 12\ngrace = 1\n");
    let enforcer = start(&lab, &policy, "lan0", &["10.1.0.1"], "17.253.4.5:53")?;
    let learn = |name: &str| -> Result<()> {
        let Asked { port, answer, .. } = ask(&lab.client, "10.1.0.2", &own, name)?;
        own.send_to(&answer, SocketAddr::new("10.1.0.2".parse()?, port))?;
        wait(name, || Ok(known(&enforcer, name)?.len() == 1))
    };
    learn("a.wild.lab.example")?;
    thread::sleep(Duration::from_secs(16));
    assert_eq!(known(&enforcer, "a.wild.lab.example")?.len(), 1, "it ended while nobody was heard");
    learn("b.wild.lab.example")?;
    wait("the first ends", || Ok(known(&enforcer, "a.wild.lab.example")?.is_empty()))?;
    enforcer.stop()
}

/// A resolver's answer to a query that it never saw.
fn a_denied_query_is_none(plan: Plan, lan: &str) -> Result<()> {
    let lab = Lab::planned(plan)?;
    let enforcer = start(&lab, POLICY, lan, &["17.1.2.3"], "17.253.4.5:53")?;
    let resolver = socket(&lab.internet, "17.1.2.3", 53)?;
    let client = socket(&lab.client, "10.1.0.2", 0)?;
    let query = dns::query("a.wild.lab.example", A);
    client.send_to(&query, resolver.local_addr()?)?;
    let answer = dns::answer(&query, A, 300, &[203, 0, 113, 50]);
    resolver.send_to(&answer, client.local_addr()?)?;
    wait("counted", || Ok(outcome(&enforcer, "unasked")? == 1))?;
    assert_eq!(known(&enforcer, "*.wild.lab.example")?, [""; 0]);
    enforcer.stop()
}

#[test]
fn a_query_that_the_policy_denies_is_none() -> Result<()> {
    a_denied_query_is_none(Plan::default(), "lan0 --xdp native")?;
    a_denied_query_is_none(Plan { bridged: true, ..Plan::default() }, "br-lan")
}

#[test]
fn answers_in_fragments_by_tcp_truncated_and_too_long_are_counted() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = on_gateway(&lab)?;
    for (side, name) in [(&lab.client, "eth0"), (&lab.gateway, "lan0")] {
        side.run(&format!("ip link set {name} mtu 1280"))?;
    }
    let enforcer = start(&lab, POLICY, "lan0", &["10.1.0.1", "fd00:1::1"], "10.1.0.1:53")?;
    let servers: [SocketAddr; 2] = ["10.1.0.1:53".parse()?, "[fd00:1::1]:53".parse()?];
    for server in servers {
        let large = dns::with_edns(dns::query("large.lab.example", TXT), 4096, false, &[]);
        let answer = lab.client.enter(|| dns::ask_udp(server, &large, PATIENCE))?.context("no answer")?;
        assert!(answer.len() > 1232 && answer[2] & 2 == 0, "{} bytes", answer.len());
        let many = dns::query("many.lab.example", A);
        let answer = lab.client.enter(|| dns::ask_udp(server, &many, PATIENCE))?.context("no answer")?;
        assert_eq!(answer[2] & 2, 2, "not truncated");
        let by_tcp = dns::query("a.wild.lab.example", A);
        lab.client.enter(|| dns::ask_tcp(server, &by_tcp, PATIENCE))?;
    }
    for counted in ["fragmented", "truncated", "tcp"] {
        assert_eq!(outcome(&enforcer, counted)?, 2, "{counted}");
    }
    assert_eq!((outcome(&enforcer, "taken")?, outcome(&enforcer, "unasked")?), (0, 0));
    assert_eq!(known(&enforcer, "*.wild.lab.example")?, [""; 0]);
    enforcer.stop()
}

#[test]
fn the_longest_answers_are_heard_and_longer_ones_counted() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    for name in ["port1", "port2", "br-lan"] {
        lab.gateway.run(&format!("ip link set {name} mtu 9000"))?;
    }
    lab.client.run("ip link set eth0 mtu 9000")?;
    let enforcer = start(&lab, POLICY, "br-lan", &["10.1.0.1"], "17.253.4.5:53")?;
    let resolver = socket(&lab.gateway, "10.1.0.1", 53)?;
    for (name, length, counted) in [("a", 4096, "taken"), ("b", 4097, "too_long"), ("c", 8000, "too_long")] {
        let before = outcome(&enforcer, counted)?;
        let name = format!("{name}.wild.lab.example");
        let Asked { port, mut answer, .. } = ask(&lab.client, "10.1.0.2", &resolver, &name)?;
        // What is behind the records that the header counts is not read.
        answer.resize(length, 0);
        resolver.send_to(&answer, SocketAddr::new("10.1.0.2".parse()?, port))?;
        wait(counted, || Ok(outcome(&enforcer, counted)? == before + 1))?;
        let learned = usize::from(counted == "taken");
        // What is taken is learned at once, and long answers would be, too.
        thread::sleep(Duration::from_millis(200));
        assert_eq!(known(&enforcer, &name)?.len(), learned, "{name}");
    }
    enforcer.stop()
}

#[test]
fn resolvers_that_no_client_can_ask_are_refused() -> Result<()> {
    let lab = Lab::new()?;
    let refused = |arguments: &str| {
        let started = Enforcer::start(&lab, POLICY, &format!("--lan lan0 --wan wan0 {arguments}"));
        started.err().map_or_else(String::new, |error| error.to_string())
    };
    for address in ["127.0.0.1", "0.0.0.0", "::ffff:10.1.0.1", "ff02::fb"] {
        assert!(refused(&format!("--dns-snoop {address}")).contains("clients ask no such address"), "{address}");
    }
    let many: String = (1..=65).map(|host| format!(" --dns-snoop 198.18.0.{host}")).collect();
    assert!(refused(&many).contains("65 resolvers for --dns-snoop, more than 64"));
    assert!(refused("--dns-upstream 17.1.2.3:53").contains("say where clients ask with --dns-listen or --dns-snoop"));
    Ok(())
}

/// Sends as many messages as would fill every table, each with another id and question.
fn flood(from: &[UdpSocket], to: SocketAddr, count: u32, answers: bool) {
    let mut message = dns::query("000000.flood.wild.lab.example", A);
    if answers {
        message = dns::answer(&message, A, 300, &[203, 0, 113, 66]);
    }
    for number in 0..count {
        message[..2].copy_from_slice(&(number as u16).to_be_bytes());
        message[13..19].copy_from_slice(format!("{number:06x}").as_bytes());
        // A full queue is none of the flood's worries.
        let _ = from[number as usize % from.len()].send_to(&message, to);
    }
}

#[test]
fn floods_of_queries_and_of_forged_answers_do_not_keep_another_clients_answer_from_being_learned() -> Result<()> {
    const COUNT: u32 = 120_000;
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let resolver = socket(&lab.internet, "17.1.2.3", 53)?;
    let policy = format!("sources = \"any\"\n{POLICY}{RESOLVERS}");
    let enforcer = start(&lab, &policy, "br-lan", &["17.1.2.3"], "17.253.4.5:53")?;
    let_forge(&lab)?;
    let asked = ask(&lab.client, "10.1.0.2", &resolver, "victim.wild.lab.example")?;
    let start = Instant::now();
    // One station with fifty addresses asks, and answers in the resolver's name.
    let mut sockets = Vec::new();
    for host in 100..150 {
        lab.neighbour.run(&format!("ip addr add 10.1.0.{host}/24 dev eth0"))?;
        sockets.push(socket(&lab.neighbour, &format!("10.1.0.{host}"), 0)?);
    }
    lab.neighbour.run("ip addr del 17.1.2.3/32 dev lo")?;
    // Each CPU has a list of its own of the newest queries, which only what comes in there pushes on.
    let (address, halves) = (resolver.local_addr()?, sockets.chunks(25));
    thread::scope(|scope| halves.for_each(|half| drop(scope.spawn(move || flood(half, address, COUNT / 2, false)))));
    lab.neighbour.run("ip addr add 17.1.2.3/32 dev lo")?;
    let client = SocketAddr::new("10.1.0.2".parse()?, asked.port);
    flood(&[socket(&lab.neighbour, "17.1.2.3", 53)?], client, COUNT / 2, true);
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(9), "the flood took {took:?}: the victim's query is forgotten by then");
    resolver.send_to(&asked.answer, client)?;
    wait("learned", || {
        Ok(known(&enforcer, "*.wild.lab.example")? == ["victim.wild.lab.example 203.0.113.50 snooped live"])
    })?;
    let (forged, over_limit) = (outcome(&enforcer, "forged")?, outcome(&enforcer, "over_limit")?);
    println!("{took:?}: {over_limit} queries over limits, {forged} forged answers");
    // Some of a flood may be lost on its way.
    assert!(over_limit > u64::from(COUNT) / 4 && forged > u64::from(COUNT) / 8, "{over_limit} {forged}");
    enforcer.stop()
}
