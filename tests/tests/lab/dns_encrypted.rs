//! The LAN's DNS server and resolvers that it asks by TLS and HTTPS.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer::dns::forwarder::Limits;
use enforcer_tests::lab::{
    Lab,
    certificate::Authority,
    dns::{self, A, PATIENCE, TXT, rcodes::SERVFAIL},
    forwarder::{Running, SERVER, ask_at_once},
    product::Enforcer,
    resolver::{HUGE, Resolver},
};
use serde_json::Value;

const ADDRESS: &str = "17.1.2.3";
const NAME: &str = "dns.lab.example";
/// A year whose certificates are good.
const GOOD: i32 = 2100;

/// A resolver with a good certificate, and the CA's.
struct Encrypted {
    resolver: Resolver,
    authority: Authority,
}

fn encrypted(lab: &Lab) -> Result<Encrypted> {
    let authority = Authority::new(lab, "ca")?;
    let resolver = Resolver::unbound_encrypted(lab, ADDRESS, &authority.certify(lab, &[NAME], GOOD)?)?;
    Ok(Encrypted { resolver, authority })
}

fn tls() -> String {
    format!("tls://{ADDRESS}#{NAME}")
}

fn https() -> String {
    format!("https://{ADDRESS}/dns-query#{NAME}")
}

fn start(lab: &Lab, upstreams: &[String], ca: &Path) -> Result<Running> {
    Running::encrypted(lab, upstreams, ca, Limits::default())
}

fn ask(lab: &Lab, query: &[u8]) -> Result<Vec<u8>> {
    lab.client.enter(|| dns::ask_udp(SERVER, query, PATIENCE))?.context("no answer")
}

/// Connections that the gateway has to a port, in any state.
fn connections(lab: &Lab, port: u16) -> Result<usize> {
    Ok(lab.gateway.output(&format!("ss -Htan dport = :{port}"))?.lines().count())
}

#[test]
fn answers_are_those_that_are_given_in_clear() -> Result<()> {
    let lab = Lab::new()?;
    let Encrypted { resolver, authority } = encrypted(&lab)?;
    for upstream in [tls(), https()] {
        let running = start(&lab, std::slice::from_ref(&upstream), &authority.file)?;
        let ask = |server: SocketAddr, query: &[u8], tcp: bool| -> Result<Vec<u8>> {
            if tcp {
                return dns::ask_tcp(server, query, PATIENCE);
            }
            dns::ask_udp(server, query, PATIENCE)?.context("no answer")
        };
        let mut truncated = 0;
        let questions = dns::questions();
        for (query, tcp) in questions.iter().flat_map(|query| [(query, false), (query, true)]) {
            // The resolver's times count down: between two answers that are the same, a third must be.
            for tries in 1.. {
                let before = lab.gateway.enter(|| ask(resolver.address, query, tcp))?;
                let passed = lab.client.enter(|| ask(SERVER, query, tcp))?;
                let after = lab.gateway.enter(|| ask(resolver.address, query, tcp))?;
                if before != after && tries < 5 {
                    continue;
                }
                if before[2] & 2 == 0 {
                    assert_eq!(passed, before, "{upstream}, TCP {tcp}, {query:?}");
                } else {
                    // What is left of such an answer is of no use.
                    let left = |message: &[u8]| (message[..4].to_vec(), dns::question(message).to_vec());
                    assert_eq!(left(&passed), left(&before));
                    truncated += 1;
                }
                break;
            }
        }
        assert!(truncated > 0, "no answer was too long for a datagram");
        let counters = running.counters();
        assert_eq!((counters.mismatched, counters.unreadable, counters.failed), (0, 0, 0), "{counters:?}");
        let learned = running.learned();
        assert!(learned.iter().any(|line| line.starts_with("www.lab.example 203.0.113.40 ")), "{learned:?}");
    }
    Ok(())
}

#[test]
fn the_largest_answers_pass_and_are_cut_for_datagrams() -> Result<()> {
    let lab = Lab::new()?;
    let Encrypted { resolver: _resolver, authority } = encrypted(&lab)?;
    for upstream in [tls(), https()] {
        let running = start(&lab, &[upstream], &authority.file)?;
        let query = dns::with_edns(dns::query("huge.lab.example", TXT), 4096, false, &[]);
        for _ in 0..5 {
            let whole = lab.client.enter(|| dns::ask_tcp(SERVER, &query, PATIENCE))?;
            assert_eq!(u16::from_be_bytes([whole[6], whole[7]]), HUGE);
            assert!(whole.len() > 63_000 && whole[2] & 2 == 0);
            let cut = ask(&lab, &query)?;
            assert!(cut[2] & 2 != 0 && cut[6..12] == [0, 0, 0, 0, 0, 1] && cut.len() < 100, "{cut:?}");
        }
        assert_eq!(running.counters().failed, 0);
    }
    Ok(())
}

#[test]
fn many_queries_share_a_connection() -> Result<()> {
    const COUNT: u16 = 1000;
    let lab = Lab::new()?;
    let Encrypted { resolver: _resolver, authority } = encrypted(&lab)?;
    for (upstream, port) in [(tls(), 853), (https(), 443)] {
        let limits = Limits { queries_per_client: COUNT.into(), ..Limits::default() };
        let running = Running::encrypted(&lab, &[upstream], &authority.file, limits)?;
        let ids = ask_at_once(&lab, COUNT, "wild.lab.example");
        let mut ids = ids.with_context(|| format!("{:?}, {:?}", running.counters(), running.errors()))?;
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), connections(&lab, port)?), (usize::from(COUNT), 1));
    }
    Ok(())
}

#[test]
fn after_a_restart_of_the_resolver_the_next_query_is_answered() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::new(&lab, "ca")?;
    let certificate = authority.certify(&lab, &[NAME], GOOD)?;
    for upstream in [tls(), https()] {
        let mut resolver = Resolver::unbound_encrypted(&lab, ADDRESS, &certificate)?;
        let running = start(&lab, &[upstream], &authority.file)?;
        for _ in 0..3 {
            assert_eq!(dns::rcode(&ask(&lab, &dns::query("www.lab.example", A))?), 0);
            drop(resolver);
            resolver = Resolver::unbound_encrypted(&lab, ADDRESS, &certificate)?;
        }
        assert_eq!(dns::rcode(&ask(&lab, &dns::query("www.lab.example", A))?), 0);
        assert_eq!(running.counters().upstream_failures[0].1, 0);
    }
    Ok(())
}

#[test]
fn a_connection_that_nobody_hears_is_replaced_in_time() -> Result<()> {
    let lab = Lab::new()?;
    let Encrypted { resolver: _resolver, authority } = encrypted(&lab)?;
    lab.internet.run("nft add table inet hole")?;
    lab.internet.run("nft add chain inet hole input { type filter hook input priority 0 ; }")?;
    for (upstream, port) in [(tls(), 853), (https(), 443)] {
        let running = start(&lab, &[upstream], &authority.file)?;
        assert_eq!(dns::rcode(&ask(&lab, &dns::query("www.lab.example", A))?), 0);
        // The way loses all of this connection, without a word, as a NAT that forgot it.
        let own = lab.gateway.output(&format!("ss -Htn dport = :{port}"))?;
        let own = own.split_whitespace().nth(3).and_then(|end| end.rsplit(':').next()).context("no connection")?;
        lab.internet.run(&format!("nft add rule inet hole input tcp sport {own} drop"))?;
        assert_eq!(dns::rcode(&ask(&lab, &dns::query("www.lab.example", A))?), 0, "{:?}", running.errors());
        assert_eq!(running.counters().upstream_failures[0].1, 0);
    }
    Ok(())
}

#[test]
fn who_is_not_known_is_asked_nothing_and_nothing_is_asked_in_clear() -> Result<()> {
    let lab = Lab::new()?;
    let Encrypted { resolver: _resolver, authority } = encrypted(&lab)?;
    let other = Authority::new(&lab, "other")?;
    let _expired =
        Resolver::unbound_encrypted(&lab, "17.253.4.5", &authority.certify(&lab, &["old.lab.example"], 2020)?)?;
    let _by_address =
        Resolver::unbound_encrypted(&lab, "203.0.113.9", &authority.certify(&lab, &["203.0.113.9"], GOOD)?)?;
    lab.internet.run("nft add table inet clear")?;
    lab.internet.run("nft add chain inet clear input { type filter hook input priority 0 ; }")?;
    lab.internet.run("nft add rule inet clear input meta l4proto { tcp, udp } th dport 53 counter")?;
    let unknown = "its certificate is of an unknown CA (one of your own is named with --dns-ca)";
    let name = format!("17.1.2.3:PORT#{NAME}");
    let cases = [
        (name.as_str(), &other, Some(unknown)),
        ("17.1.2.3:PORT#other.lab.example", &authority, Some("its certificate is not for other.lab.example")),
        ("17.1.2.3:PORT", &authority, Some("its certificate is not for 17.1.2.3")),
        ("17.253.4.5:PORT#old.lab.example", &authority, Some("its certificate has expired")),
        ("17.1.2.3:54#dns.lab.example", &authority, Some("Connection refused (os error 111)")),
        ("203.0.113.9:PORT", &authority, None),
    ];
    let asked_in_clear = || lab.internet.output("nft list chain inet clear input");
    // By this test, as it waits for the resolvers to begin.
    let before = asked_in_clear()?;
    for (place, authority, error) in cases {
        for (scheme, port) in [("tls", "853"), ("https", "443")] {
            let upstream = format!("{scheme}://{}", place.replace("PORT", port));
            let running = start(&lab, std::slice::from_ref(&upstream), &authority.file)?;
            for _ in 0..3 {
                let code = dns::rcode(&ask(&lab, &dns::query("www.lab.example", A))?);
                assert_eq!(code, if error.is_some() { SERVFAIL } else { 0 }, "{upstream}: {:?}", running.errors());
            }
            assert_eq!(running.errors(), [error.map(str::to_owned)], "{upstream}");
        }
    }
    assert_eq!(asked_in_clear()?, before);
    Ok(())
}

#[test]
fn who_speaks_something_else_is_called_so() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::new(&lab, "ca")?;
    let listener = lab.internet.enter(|| Ok(TcpListener::bind("17.1.2.3:853")?))?;
    let greeting = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"220 mail.example\r\n")?;
        // Until the other end is closed.
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    });
    let running = start(&lab, &[tls()], &authority.file)?;
    assert_eq!(dns::rcode(&ask(&lab, &dns::query("www.lab.example", A))?), SERVFAIL);
    assert_eq!(running.errors(), [Some("it does not speak TLS there".into())]);
    let _ = greeting.join();
    Ok(())
}

#[test]
fn an_upstream_that_accepts_and_says_nothing_is_passed_over() -> Result<()> {
    let lab = Lab::new()?;
    let Encrypted { resolver: _resolver, authority } = encrypted(&lab)?;
    for (upstream, port) in [(tls(), 853), (https(), 443)] {
        let silent = lab.internet.enter(|| Ok(TcpListener::bind(("17.253.4.5", port))?))?;
        let limits = Limits { upstream: Duration::from_millis(500), ..Limits::default() };
        let upstreams = [upstream.replace(ADDRESS, "17.253.4.5"), upstream];
        let running = Running::encrypted(&lab, &upstreams, &authority.file, limits)?;
        for number in 0..2 {
            let answer = ask(&lab, &dns::query(&format!("a{number}.wild.lab.example"), A))?;
            assert_eq!(dns::rcode(&answer), 0);
        }
        // It is known to be ill, for who asks by TCP as well.
        let start = Instant::now();
        let query = dns::query("a3.wild.lab.example", A);
        assert_eq!(dns::rcode(&lab.client.enter(|| dns::ask_tcp(SERVER, &query, PATIENCE))?), 0);
        assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
        assert_eq!(running.errors(), [Some("no answer in 500ms".into()), None]);
        assert_eq!(running.counters().timeouts, 2);
        drop(silent);
    }
    Ok(())
}

#[test]
fn a_wrong_path_is_a_failure_with_a_name() -> Result<()> {
    let lab = Lab::new()?;
    let Encrypted { resolver: _resolver, authority } = encrypted(&lab)?;
    let running = start(&lab, &[format!("https://{ADDRESS}/elsewhere#{NAME}")], &authority.file)?;
    assert_eq!(dns::rcode(&ask(&lab, &dns::query("www.lab.example", A))?), SERVFAIL);
    assert_eq!(running.errors(), [Some("it answers with HTTP status 404 Not Found".into())]);
    Ok(())
}

#[test]
fn the_status_says_why_an_upstream_is_not_well() -> Result<()> {
    let lab = Lab::new()?;
    let Encrypted { resolver: _resolver, authority } = encrypted(&lab)?;
    let other = Authority::new(&lab, "other")?;
    let start = |ca: &Path, upstream: &str| {
        let ca = ca.display();
        let dns = format!("--dns-listen {SERVER} --dns-upstream {upstream} --dns-ca {ca}");
        Enforcer::start(&lab, "default = \"drop\"\n", &format!("--lan lan0 --wan wan0 {dns}"))
    };
    let enforcer = start(&other.file, &tls())?;
    for _ in 0..2 {
        assert_eq!(dns::rcode(&ask(&lab, &dns::query("www.lab.example", A))?), SERVFAIL);
    }
    let error = "its certificate is of an unknown CA (one of your own is named with --dns-ca)";
    let line = format!("tls://{ADDRESS}:853#{NAME} does not answer, 2 failures: {error}");
    let status = enforcer.ask("status")?;
    assert!(status.contains(&line), "{status}");
    let json: Value = serde_json::from_str(&enforcer.ask("status --json")?)?;
    assert_eq!(json["names"]["upstreams"][0]["error"], error);
    enforcer.stop()?;
    let enforcer = start(&authority.file, &https())?;
    assert_eq!(dns::rcode(&ask(&lab, &dns::query("www.lab.example", A))?), 0);
    let status = enforcer.ask("status")?;
    assert!(status.contains(&format!("https://{ADDRESS}:443/dns-query#{NAME} well, 0 failures\n")), "{status}");
    enforcer.stop()?;
    let refused = start(&authority.file, "17.1.2.3").err().context("a CA for nobody")?.to_string();
    assert!(refused.contains("--dns-ca is for encrypted upstreams, and there is none"), "{refused}");
    Ok(())
}

/// Tests that measure time. No other test runs beside them.
mod serial {
    use super::*;

    #[test]
    fn encryption_takes_little_time() -> Result<()> {
        const COUNT: usize = 1000;
        let lab = Lab::new()?;
        let Encrypted { resolver, authority } = encrypted(&lab)?;
        let plain = resolver.address.to_string();
        let mut medians = Vec::new();
        for upstream in [plain, tls(), https()] {
            let running = start(&lab, std::slice::from_ref(&upstream), &authority.file)?;
            let query = dns::query("www.lab.example", A);
            let mut times = lab.client.enter(|| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(SERVER)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                let mut times = Vec::new();
                for _ in 0..COUNT {
                    let start = Instant::now();
                    socket.send(&query)?;
                    let mut answer = [0; 512];
                    socket.recv(&mut answer)?;
                    times.push(start.elapsed());
                    assert_eq!((dns::rcode(&answer), answer[7]), (0, 2));
                }
                Ok(times)
            })?;
            let first = times[0];
            times.sort_unstable();
            println!("{upstream}: median of {COUNT} queries {:?}, the first {first:?}", times[COUNT / 2]);
            assert_eq!(running.counters().failed, 0);
            medians.push(times[COUNT / 2]);
        }
        assert!(medians.iter().all(|median| *median < medians[0] + Duration::from_millis(10)), "{medians:?}");
        Ok(())
    }
}
