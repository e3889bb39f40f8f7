//! The LAN's DNS server between real clients and real resolvers.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer::dns::{
    forwarder::{Decision, Limits, upstream::Upstreams},
    resolver::{self, schedule::Schedule},
};
use enforcer_tests::lab::{
    Lab,
    dns::{self, A, PATIENCE, rcodes::SERVFAIL},
    forwarder::{Record, Running, SERVER},
    resolver::{MANY, Resolver},
};
use tokio::runtime::Runtime;

/// The forwarder, as clients see it; the last two are addresses that the way back does not prefer.
const SERVERS: [&str; 4] = ["10.1.0.1:53", "[fd00:1::1]:53", "198.51.100.1:53", "[2001:db8:ffff::1]:53"];

fn passes_byte_for_byte(lab: &Lab, resolver: &Resolver) -> Result<()> {
    let running = Running::start(lab, &[resolver])?;
    let ask = |server: SocketAddr, query: &[u8], tcp: bool| -> Result<Vec<u8>> {
        if tcp {
            return dns::ask_tcp(server, query, PATIENCE);
        }
        dns::ask_udp(server, query, PATIENCE)?.context("no answer")
    };
    let mut truncated = 0;
    for (query, tcp) in dns::questions().iter().flat_map(|query| [(query, false), (query, true)]) {
        for server in SERVERS {
            let server: SocketAddr = server.parse()?;
            // A resolver's own times count down: between two answers that are the same, a third must be.
            let mut tries = 0;
            loop {
                let mut before = lab.gateway.enter(|| ask(resolver.address, query, tcp))?;
                let mut passed = lab.client.enter(|| ask(server, query, tcp)).with_context(|| format!("{query:?}"))?;
                let mut after = lab.gateway.enter(|| ask(resolver.address, query, tcp))?;
                // Unbound writes what is below a DNAME as it was asked for, which is in a random case.
                if query[17..].starts_with(b"\x03old") {
                    for message in [&mut before, &mut passed, &mut after] {
                        message[12 + 22 + 4..].make_ascii_lowercase();
                    }
                }
                tries += 1;
                if before == after || tries > 5 {
                    assert_eq!(passed, before, "of {server}, TCP {tcp}, {query:?}");
                    truncated += u32::from(passed[2] & 2 != 0);
                    break;
                }
            }
        }
    }
    assert!(truncated > 0, "no answer was too long for a datagram");
    let counters = running.counters();
    assert_eq!(
        (counters.mismatched, counters.unreadable, counters.failed, counters.unfit),
        (0, 0, 0, 0),
        "{counters:?}"
    );
    let learned = running.learned();
    let all = |name: &str| learned.iter().filter(|line| line.starts_with(name)).count();
    assert!(all("many.lab.example 203.0.113.") >= usize::from(MANY) * 12);
    assert!(all("a.b.wild.lab.example 203.0.113.50 ") >= 24 && all("x.wild.lab.example 2001:db8::50 ") >= 24);
    assert!(all("www.lab.example 203.0.113.40 ") >= 24 && all("www.lab.example 2001:db8::40 ") >= 24);
    assert!(all("service.lab.example 203.0.113.60 ") >= 24);
    assert!(learned.iter().all(|line| !line.starts_with("edge.cdn.example")), "{learned:?}");
    Ok(())
}

#[test]
fn answers_of_dnsmasq_pass_byte_for_byte() -> Result<()> {
    let lab = Lab::new()?;
    passes_byte_for_byte(&lab, &Resolver::dnsmasq(&lab, "17.1.2.3")?)
}

#[test]
fn answers_of_unbound_pass_byte_for_byte() -> Result<()> {
    let lab = Lab::new()?;
    passes_byte_for_byte(&lab, &Resolver::unbound(&lab, "2620:149::5")?)
}

#[test]
fn dig_gets_everything() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::unbound(&lab, "17.1.2.3")?;
    let running = Running::start(&lab, &[&resolver])?;
    let dig = |words: &str| lab.client.output(&format!("dig +time=5 +short {words}"));
    assert_eq!(dig("@10.1.0.1 www.lab.example")?, "edge.cdn.example.\n203.0.113.40\n");
    assert_eq!(dig("@fd00:1::1 www.lab.example AAAA")?, "edge.cdn.example.\n2001:db8::40\n");
    // Too long for a datagram without EDNS: dig comes back by TCP.
    assert_eq!(dig("@10.1.0.1 +noedns many.lab.example")?.lines().count(), usize::from(MANY));
    assert_eq!(
        dig("@fd00:1::1 +tcp +keepopen many.lab.example www.lab.example")?.lines().count(),
        usize::from(MANY) + 2
    );
    // As routers are announced: by an address that only the link knows.
    let own = lab.gateway.output("ip -6 -oneline address show dev lan0 scope link")?;
    let own = own.split_whitespace().find_map(|word| word.strip_suffix("/64")).context("no link-local address")?;
    for words in ["", "+tcp"] {
        assert_eq!(dig(&format!("@{own}%eth0 {words} www.lab.example"))?.lines().count(), 2);
    }
    assert_eq!(running.counters().upstream_failures, [(resolver.address, 0)]);
    Ok(())
}

#[test]
fn what_is_blocked_is_answered_here() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    let decisions = [("www", Decision::NxDomain), ("many", Decision::Zero), ("large", Decision::Refuse)];
    let decisions = decisions.map(|(name, decision)| (format!("{name}.lab.example"), decision)).into();
    let record = Record { decisions, ..Record::default() };
    let running = Running::configured(&lab, vec![resolver.address], Limits::default(), record)?;
    let dig = |words: &str| lab.client.output(&format!("dig +time=5 {words}"));
    let blocked = dig("@10.1.0.1 WWW.lab.example")?;
    assert!(blocked.contains("status: NXDOMAIN") && blocked.contains("WWW.lab.example.\t60\tIN\tSOA"), "{blocked}");
    assert_eq!(dig("+tcp +short @fd00:1::1 many.lab.example AAAA")?, "::\n");
    assert_eq!(dig("+short @10.1.0.1 many.lab.example")?, "0.0.0.0\n");
    let nothing = dig("+noedns @10.1.0.1 many.lab.example HTTPS")?;
    assert!(nothing.contains("status: NOERROR") && nothing.contains("AUTHORITY: 1, ADDITIONAL: 0"), "{nothing}");
    assert!(dig("@10.1.0.1 large.lab.example TXT")?.contains("status: REFUSED"));
    let counters = running.counters();
    assert_eq!((counters.nxdomain, counters.zero, counters.refused, counters.answers), (1, 3, 1, 0));
    assert!(running.learned().is_empty());
    Ok(())
}

#[test]
fn the_kernel_knows_before_the_client() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    let delay = Duration::from_millis(300);
    let record = Record { delay, ..Record::default() };
    let running = Running::configured(&lab, vec![resolver.address], Limits::default(), record)?;
    let query = dns::query("www.lab.example", A);
    for tcp in [false, true] {
        let start = Instant::now();
        lab.client.enter(|| {
            if tcp { dns::ask_tcp(SERVER, &query, PATIENCE).map(Some) } else { dns::ask_udp(SERVER, &query, PATIENCE) }
        })?;
        let answered = Instant::now();
        let learned = running.last_learned().context("nothing was learned")?;
        assert!(learned <= answered && learned >= start + delay, "TCP {tcp}");
    }
    // What has no addresses has nothing to wait for.
    let start = Instant::now();
    lab.client.enter(|| dns::ask_udp(SERVER, &dns::query("nothing.lab.example", A), PATIENCE))?.context("no answer")?;
    assert!(start.elapsed() < delay);
    Ok(())
}

#[test]
fn exact_names_are_asked_for_until_they_are_known() -> Result<()> {
    let lab = Lab::new()?;
    let address = SocketAddr::from(([17, 1, 2, 3], 53));
    let upstreams = Arc::new(Upstreams::new(vec![address.into()], None, Duration::from_millis(300))?);
    let names = ["www", "many", "nothing"].map(|name| format!("{name}.lab.example").parse().unwrap());
    let mut schedule = Schedule::new(names, 100, Duration::from_secs(60)..=Duration::from_secs(86_400), Instant::now());
    let learned = Mutex::new(Vec::new());
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            lab.gateway.enter(|| {
                let resolving = resolver::run(&mut schedule, &upstreams, async |answer, _| {
                    let text = format!("{} {}", answer.question.name, answer.addresses.len());
                    learned.lock().unwrap().push(text);
                });
                // Time for a second attempt.
                let for_a_while = async { tokio::time::timeout(Duration::from_secs(6), resolving).await };
                assert!(Runtime::new()?.block_on(for_a_while).is_err());
                Ok(())
            })
        });
        // Nobody listens yet.
        thread::sleep(Duration::from_millis(500));
        assert!(learned.lock().unwrap().is_empty());
        let resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
        thread::sleep(Duration::from_secs(5));
        drop(resolver);
        Ok(())
    })?;
    let mut learned = learned.into_inner().unwrap();
    learned.sort_unstable();
    assert_eq!(learned, [format!("many.lab.example {MANY}").as_str(), "www.lab.example 1", "www.lab.example 1"]);
    Ok(())
}

/// Tests that measure time. No other test runs beside them.
mod serial {
    use super::*;

    #[test]
    fn it_takes_little_time() -> Result<()> {
        const COUNT: usize = 1000;
        let lab = Lab::new()?;
        let resolver = Resolver::unbound(&lab, "17.1.2.3")?;
        let running = Running::start(&lab, &[&resolver])?;
        let query = dns::query("www.lab.example", A);
        let mut times = [(resolver.address, Vec::new()), (SERVER, Vec::new())];
        lab.client.enter(|| {
            for _ in 0..COUNT {
                for (server, times) in &mut times {
                    let start = Instant::now();
                    let answer = dns::ask_udp(*server, &query, PATIENCE)?.context("no answer")?;
                    times.push(start.elapsed());
                    assert_eq!((dns::rcode(&answer), answer[7]), (0, 2));
                }
            }
            Ok(())
        })?;
        let [direct, through] = times.map(|(_, mut times)| {
            times.sort_unstable();
            times[COUNT / 2]
        });
        println!("median of {COUNT} queries: {direct:?} asked directly, {through:?} through the forwarder");
        assert!(through < direct + Duration::from_millis(2), "{direct:?} directly, {through:?} through the forwarder");
        assert_eq!(running.counters().failed, 0);
        Ok(())
    }

    #[test]
    fn a_silent_upstream_is_passed_over_and_none_is_a_failure() -> Result<()> {
        let lab = Lab::new()?;
        let resolver = Resolver::dnsmasq(&lab, "203.0.113.9")?;
        // Nobody is there, nobody listens, and one that answers.
        let silent: SocketAddr = "198.51.100.77:53".parse()?;
        let closed: SocketAddr = "17.1.2.3:53".parse()?;
        let limits = Limits { upstream: Duration::from_millis(300), ..Limits::default() };
        let upstreams = vec![silent, closed, resolver.address];
        let running = Running::configured(&lab, upstreams, limits, Record::default())?;
        let ask = |query: &[u8]| lab.client.enter(|| dns::ask_udp(SERVER, query, PATIENCE));
        let query = dns::query("www.lab.example", A);
        for _ in 0..2 {
            assert_eq!(dns::rcode(&ask(&query)?.context("no answer")?), 0);
        }
        // Both are known to be ill: the well one is asked first.
        let start = Instant::now();
        assert_eq!(dns::rcode(&ask(&query)?.context("no answer")?), 0);
        assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
        assert_eq!(lab.client.enter(|| dns::ask_tcp(SERVER, &query, PATIENCE)).map(|answer| dns::rcode(&answer))?, 0);
        let failures = running.counters().upstream_failures;
        assert!(failures[0].1 >= 2 && failures[1].1 >= 2 && failures[2].1 == 0, "{failures:?}");

        drop(resolver);
        let query = dns::with_edns(query, 1232, true, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        let failed = ask(&query)?.context("no answer")?;
        assert_eq!(dns::rcode(&failed), SERVFAIL);
        // Id, question, and an OPT record without the client's options.
        assert_eq!((&failed[..2], &failed[12..33]), (&query[..2], &query[12..33]));
        assert_eq!(failed[33..], [0, 0, 41, 1232_u16.to_be_bytes()[0], 1232_u16.to_be_bytes()[1], 0, 0, 0x80, 0, 0, 0]);
        assert_eq!(dns::rcode(&lab.client.enter(|| dns::ask_tcp(SERVER, &query, PATIENCE))?), SERVFAIL);
        assert_eq!(running.counters().failed, 2);
        Ok(())
    }
}
