//! The LAN's DNS server between real clients and real resolvers.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer::dns::{
    forwarder::{Decision, Limits, counters::Counters, upstream::Upstreams},
    resolver::{self, schedule::Schedule},
};
use enforcer_tests::lab::{
    Lab,
    dns::{self, A, AAAA, HTTPS, TXT},
    forwarder::{Record, Running},
    resolver::{MANY, Resolver},
};
use tokio::runtime::Runtime;

/// The forwarder, as clients see it; the last one is an address that the way back does not prefer.
const SERVERS: [&str; 3] = ["10.1.0.1:53", "[fd00:1::1]:53", "198.51.100.1:53"];
const PATIENCE: Duration = Duration::from_secs(8);

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

fn server() -> SocketAddr {
    SocketAddr::from(([10, 1, 0, 1], 53))
}

/// All kinds of questions, with and without EDNS.
fn questions() -> Vec<Vec<u8>> {
    let names = [
        ("www.lab.example", A),
        ("WwW.LaB.eXaMpLe", AAAA),
        ("a.b.wild.lab.example", A),
        ("x.wild.lab.example", AAAA),
        ("many.lab.example", A),
        ("medium.lab.example", TXT),
        ("large.lab.example", TXT),
        ("service.lab.example", HTTPS),
        ("www.lab.example", 65_280),
        ("nothing.lab.example", A),
        ("edge.old.lab.example", A),
    ];
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let forms = names.iter().flat_map(|(name, kind)| {
        let plain = dns::query(name, *kind);
        let small = dns::with_edns(plain.clone(), 1232, true, &[]);
        let large = dns::with_edns(plain.clone(), 4096, false, &cookie);
        [plain, small, large]
    });
    let mut all: Vec<Vec<u8>> = forms.collect();
    let mut checking_disabled = dns::query("www.lab.example", A);
    checking_disabled[3] |= 0x30;
    let mut chaos = dns::query("version.bind", TXT);
    *chaos.last_mut().unwrap() = 3;
    all.extend([checking_disabled, chaos]);
    all
}

fn passes_byte_for_byte(lab: &Lab, resolver: &Resolver) -> Result<()> {
    let running = Running::start(lab, &[resolver])?;
    let ask = |server: SocketAddr, query: &[u8], tcp: bool| -> Result<Vec<u8>> {
        if tcp {
            return dns::ask_tcp(server, query, PATIENCE);
        }
        dns::ask_udp(server, query, PATIENCE)?.context("no answer")
    };
    let mut truncated = 0;
    for (query, tcp) in questions().iter().flat_map(|query| [(query, false), (query, true)]) {
        for server in SERVERS {
            let server: SocketAddr = server.parse()?;
            // A resolver's own times count down: between two answers that are the same, a third must be.
            let mut tries = 0;
            loop {
                let before = lab.gateway.enter(|| ask(resolver.address, query, tcp))?;
                let passed = lab.client.enter(|| ask(server, query, tcp)).with_context(|| format!("{query:?}"))?;
                let after = lab.gateway.enter(|| ask(resolver.address, query, tcp))?;
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
    assert!(all("many.lab.example 203.0.113.") >= usize::from(MANY) * 9);
    assert!(all("a.b.wild.lab.example 203.0.113.50 ") >= 18 && all("x.wild.lab.example 2001:db8::50 ") >= 18);
    assert!(all("www.lab.example 203.0.113.40 ") >= 18 && all("www.lab.example 2001:db8::40 ") >= 18);
    assert!(all("service.lab.example 203.0.113.60 ") >= 18);
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
fn a_silent_upstream_is_passed_over_and_none_is_a_failure() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::dnsmasq(&lab, "203.0.113.9")?;
    // Nobody is there, nobody listens, and one that answers.
    let silent: SocketAddr = "198.51.100.77:53".parse()?;
    let closed: SocketAddr = "17.1.2.3:53".parse()?;
    let limits = Limits { upstream: Duration::from_millis(300), ..Limits::default() };
    let upstreams = vec![silent, closed, resolver.address];
    let running = Running::configured(&lab, upstreams, limits, Record::default())?;
    let ask = |query: &[u8]| lab.client.enter(|| dns::ask_udp(server(), query, PATIENCE));
    let query = dns::query("www.lab.example", A);
    for _ in 0..2 {
        assert_eq!(dns::rcode(&ask(&query)?.context("no answer")?), 0);
    }
    // Both are known to be ill: the well one is asked first.
    let start = Instant::now();
    assert_eq!(dns::rcode(&ask(&query)?.context("no answer")?), 0);
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    assert_eq!(lab.client.enter(|| dns::ask_tcp(server(), &query, PATIENCE)).map(|answer| dns::rcode(&answer))?, 0);
    let failures = running.counters().upstream_failures;
    assert!(failures[0].1 >= 2 && failures[1].1 >= 2 && failures[2].1 == 0, "{failures:?}");

    drop(resolver);
    let query = dns::with_edns(query, 1232, true, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let failed = ask(&query)?.context("no answer")?;
    assert_eq!(dns::rcode(&failed), SERVFAIL);
    // Id, question, and an OPT record without the client's options.
    assert_eq!((&failed[..2], &failed[12..33]), (&query[..2], &query[12..33]));
    assert_eq!(failed[33..], [0, 0, 41, 1232_u16.to_be_bytes()[0], 1232_u16.to_be_bytes()[1], 0, 0, 0x80, 0, 0, 0]);
    assert_eq!(dns::rcode(&lab.client.enter(|| dns::ask_tcp(server(), &query, PATIENCE))?), SERVFAIL);
    assert_eq!(running.counters().failed, 2);
    Ok(())
}

/// An upstream, run by a test: gets every query with its socket and the forwarder's address until the lab ends.
fn upstream(
    lab: &Lab,
    address: &str,
    mut serve: impl FnMut(&UdpSocket, SocketAddr, &[u8]) + Send + 'static,
) -> Result<SocketAddr> {
    let address = SocketAddr::new(address.parse()?, 53);
    let socket = lab.internet.enter(|| dns::bind(address))?;
    // A test's process ends its threads.
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            serve(&socket, from, &buffer[..length]);
        }
    });
    Ok(address)
}

#[test]
fn forged_answers_reach_nobody() -> Result<()> {
    const EVIL: [u8; 4] = [203, 0, 113, 66];
    let lab = Lab::new()?;
    let bind = |address: &str| lab.internet.enter(|| Ok(UdpSocket::bind(address)?));
    let (other_port, other_address) = (bind("17.1.2.3:5353")?, bind("17.253.4.5:53")?);
    let address = upstream(&lab, "17.1.2.3", move |socket, from, query| {
        let forged = dns::answer(query, A, 60, &EVIL);
        let send = |socket: &UdpSocket, message: &[u8]| {
            let _ = socket.send_to(message, from);
        };
        send(&other_port, &forged);
        send(&other_address, &forged);
        let changed = |at: usize, value: u8| {
            let mut message = forged.clone();
            message[at] = value;
            message
        };
        // Another id, a query, an update, no question, another name, type and class, cut off, nothing, noise.
        let class = query.len() - 1;
        let wrong = [
            changed(0, !query[0]),
            changed(2, 1),
            changed(2, 0xa9),
            changed(5, 0),
            changed(13, b'x'),
            changed(class - 2, 28),
            changed(class, 3),
            forged[..20].to_vec(),
            Vec::new(),
            vec![255; 600],
        ];
        for message in &wrong {
            send(socket, message);
        }
        thread::sleep(Duration::from_millis(20));
        // The true one, in a case of its own.
        let mut answer = dns::answer(query, A, 60, &[203, 0, 113, 1]);
        answer[12..query.len()].make_ascii_uppercase();
        send(socket, &answer);
        send(socket, &forged);
    })?;
    let running = Running::configured(&lab, vec![address], Limits::default(), Record::default())?;
    for _ in 0..20 {
        let query = dns::query("wWw.lab.example", A);
        let answer = lab.client.enter(|| dns::ask_udp(server(), &query, PATIENCE))?.context("no answer")?;
        assert_eq!(answer, dns::answer(&query, A, 60, &[203, 0, 113, 1]));
    }
    assert_eq!(running.learned(), vec!["www.lab.example 203.0.113.1 60"; 20]);
    let counters = running.counters();
    assert_eq!((counters.mismatched, counters.answers, counters.timeouts), (200, 20, 0), "{counters:?}");
    Ok(())
}

#[test]
fn ports_and_ids_towards_upstreams_are_random() -> Result<()> {
    let lab = Lab::new()?;
    let (sender, seen) = std::sync::mpsc::channel();
    let address = upstream(&lab, "17.1.2.3", move |socket, from, query| {
        let _ = sender.send((from.port(), [query[0], query[1]]));
        let _ = socket.send_to(&dns::answer(query, A, 60, &[203, 0, 113, 1]), from);
    })?;
    let running = Running::configured(&lab, vec![address], Limits::default(), Record::default())?;
    for _ in 0..200 {
        let query = dns::query("www.lab.example", A);
        lab.client.enter(|| dns::ask_udp(server(), &query, PATIENCE))?.context("no answer")?;
    }
    drop(running);
    let (mut ports, mut ids): (Vec<u16>, Vec<[u8; 2]>) = seen.try_iter().unzip();
    let neighbours = ports.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 16).count();
    assert!(neighbours < 20, "{ports:?}");
    for count in [distinct(&mut ports), distinct(&mut ids)] {
        assert!(count > 190, "only {count} of 200");
    }
    Ok(())
}

fn distinct<T: Ord>(values: &mut Vec<T>) -> usize {
    values.sort_unstable();
    values.dedup();
    values.len()
}

#[test]
fn the_kernel_knows_before_the_client() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    let delay = Duration::from_millis(150);
    let record = Record { delay, ..Record::default() };
    let running = Running::configured(&lab, vec![resolver.address], Limits::default(), record)?;
    let query = dns::query("www.lab.example", A);
    for tcp in [false, true] {
        let start = Instant::now();
        lab.client.enter(|| {
            if tcp {
                dns::ask_tcp(server(), &query, PATIENCE).map(Some)
            } else {
                dns::ask_udp(server(), &query, PATIENCE)
            }
        })?;
        let answered = Instant::now();
        let learned = running.last_learned().context("nothing was learned")?;
        assert!(learned <= answered && learned >= start + delay, "TCP {tcp}");
    }
    // What has no addresses has nothing to wait for.
    let start = Instant::now();
    lab.client
        .enter(|| dns::ask_udp(server(), &dns::query("nothing.lab.example", A), PATIENCE))?
        .context("no answer")?;
    assert!(start.elapsed() < delay);
    Ok(())
}

#[test]
fn a_thousand_queries_at_once_are_answered() -> Result<()> {
    const COUNT: u16 = 1000;
    let lab = Lab::new()?;
    // Answers only when all have asked, and the last one first.
    let mut waiting = Vec::new();
    let address = upstream(&lab, "17.1.2.3", move |socket, from, query| {
        waiting.push((from, dns::answer(query, A, 60, &[203, 0, 113, 1])));
        if waiting.len() == usize::from(COUNT) {
            for (from, answer) in waiting.drain(..).rev() {
                let _ = socket.send_to(&answer, from);
            }
        }
    })?;
    let limits = Limits { queries_per_client: COUNT.into(), upstream: PATIENCE, ..Limits::default() };
    let running = Running::configured(&lab, vec![address], limits, Record::default())?;
    let ids = lab.client.enter(|| {
        let socket = dns::bind("0.0.0.0:0".parse()?)?;
        socket.connect(server())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        for number in 0..COUNT {
            let mut query = dns::query(&format!("n{number}.lab.example"), A);
            query[..2].copy_from_slice(&number.to_be_bytes());
            socket.send(&query)?;
        }
        let mut ids = Vec::new();
        let mut buffer = [0; 512];
        while ids.len() < COUNT.into() {
            socket.recv(&mut buffer)?;
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            let name = format!("n{id}");
            assert_eq!(&buffer[13..13 + name.len()], name.as_bytes());
            ids.push(id);
        }
        Ok(ids)
    });
    let counters = running.counters();
    let mut ids = ids.with_context(|| format!("{counters:?}"))?;
    assert_eq!((distinct(&mut ids), counters.answers), (usize::from(COUNT), u64::from(COUNT)));
    assert_eq!(running.learned().len(), usize::from(COUNT));
    Ok(())
}

#[test]
fn a_client_has_its_share_and_no_more() -> Result<()> {
    let lab = Lab::new()?;
    let address = upstream(&lab, "17.1.2.3", |_, _, _| {})?;
    let limits = Limits { queries_per_client: 10, upstream: Duration::from_millis(1500), ..Limits::default() };
    let running = Running::configured(&lab, vec![address], limits, Record::default())?;
    let query = dns::query("www.lab.example", A);
    let failed = lab.client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(server())?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        for _ in 0..50 {
            socket.send(&query)?;
        }
        // By TCP, the queries over the limit wait; those by UDP have taken all places.
        thread::sleep(Duration::from_millis(200));
        let mut stream = TcpStream::connect(server())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        for _ in 0..15 {
            dns::send(&stream, &query)?;
        }
        // Another network has a share of its own.
        let start = Instant::now();
        let other = dns::ask_udp("[fd00:1::1]:53".parse()?, &query, PATIENCE)?.context("no answer")?;
        assert!(dns::rcode(&other) == SERVFAIL && start.elapsed() < Duration::from_secs(3));
        for _ in 0..15 {
            assert_eq!(dns::rcode(&dns::receive(&mut stream)?), SERVFAIL);
        }
        let mut failed = 0;
        while socket.recv(&mut [0; 512]).is_ok() {
            failed += 1;
        }
        Ok(failed)
    })?;
    let counters = running.counters();
    assert_eq!((failed, counters.over_limit), (10, 40), "{counters:?}");
    Ok(())
}

#[test]
fn garbage_is_told_or_ignored() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    let running = Running::start(&lab, &[&resolver])?;
    let query = dns::query("www.lab.example", A);
    let soon = Duration::from_millis(300);
    let ask = |message: &[u8]| -> Result<Option<u8>> {
        Ok(dns::ask_udp(server(), message, soon)?.map(|answer| dns::rcode(&answer)))
    };
    let changed = |at: usize, value: u8| {
        let mut message = query.clone();
        message[at] = value;
        message
    };
    lab.client.enter(|| {
        assert_eq!(ask(&changed(2, 0x81))?, None, "an answer");
        assert_eq!(ask(&query[..5])?, None);
        assert_eq!(ask(&query[..16])?, Some(1), "cut off");
        assert_eq!(ask(&changed(5, 2))?, Some(1), "two questions");
        assert_eq!(ask(&changed(5, 0))?, Some(1), "no question");
        assert_eq!(ask(&changed(2, 5 << 3))?, Some(4), "an update");
        assert_eq!(ask(&dns::query("lab.example", 252))?, Some(REFUSED), "a zone transfer");
        assert_eq!(ask(&dns::query("nothing.lab.example", A))?, Some(NXDOMAIN));
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(server())?;
        for length in 0..500 {
            let noise: Vec<u8> = (0..length).map(|_| rand::random()).collect();
            socket.send(&noise)?;
        }
        // Still there.
        thread::sleep(Duration::from_millis(200));
        assert!(dns::ask_udp(server(), &query, PATIENCE)?.is_some());
        Ok(())
    })?;
    assert_eq!(running.counters().unreadable, 0);
    Ok(())
}

#[test]
fn connections_carry_many_queries_and_none_is_held_for_long() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::unbound(&lab, "17.1.2.3")?;
    let limits = Limits { idle: Duration::from_millis(500), connections_per_client: 8, ..Limits::default() };
    let running = Running::configured(&lab, vec![resolver.address], limits, Record::default())?;
    let connect = || -> Result<TcpStream> {
        let stream = TcpStream::connect(server())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    let query = dns::query("many.lab.example", A);
    lab.client.enter(|| {
        // Two hundred queries one behind the other, and no more: the end of writing is no reason to lose answers.
        let mut stream = connect()?;
        for _ in 0..200 {
            dns::send(&stream, &query)?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        for _ in 0..200 {
            assert_eq!(dns::receive(&mut stream)?[12..28], query[12..28]);
        }
        assert!(dns::receive(&mut stream).is_err());

        // The largest message there is: what is behind the question is the upstream's affair, and this one makes no sense.
        let mut stream = connect()?;
        let mut huge = query.clone();
        huge.resize(65_535, 0);
        dns::send(&stream, &huge)?;
        assert_eq!(dns::receive(&mut stream)?[..2], huge[..2]);

        // One that says nothing, one that stops in the middle, one that sends a byte now and then, and one that takes no answers.
        let start = Instant::now();
        let mut silent = connect()?;
        let mut halting = connect()?;
        std::io::Write::write_all(&mut halting, &[1, 0, 7])?;
        let mut slow = connect()?;
        let writing = slow.try_clone()?;
        let writer = thread::spawn(move || {
            let bytes = [&[0, 200][..], &[7; 200]].concat();
            bytes
                .chunks(1)
                .take_while(|byte| {
                    thread::sleep(Duration::from_millis(100));
                    std::io::Write::write_all(&mut &writing, byte).is_ok()
                })
                .count()
        });
        for stream in [&mut silent, &mut halting, &mut slow] {
            assert!(dns::receive(stream).is_err());
            let waited = start.elapsed();
            assert!((Duration::from_millis(400)..Duration::from_secs(3)).contains(&waited), "{waited:?}");
        }
        assert!(writer.join().is_ok_and(|written| written < 100));

        let greedy = connect()?;
        greedy.set_write_timeout(Some(Duration::from_secs(5)))?;
        let large = dns::query("large.lab.example", TXT);
        let mut asked = 0;
        while dns::send(&greedy, &large).is_ok() && asked < 1_000_000 {
            asked += 1;
        }
        assert!(asked < 1_000_000, "all were taken");

        // A ninth connection is closed at once. The place of one that ended is free a moment later.
        thread::sleep(Duration::from_millis(100));
        let mut streams = (0..9).map(|_| connect()).collect::<Result<Vec<_>>>()?;
        let start = Instant::now();
        assert!(dns::receive(&mut streams[8]).is_err() && start.elapsed() < Duration::from_millis(300));
        assert!(dns::ask_udp(server(), &query, PATIENCE)?.is_some());
        Ok(())
    })?;
    assert_eq!(running.counters().connections_over_limit, 1);
    Ok(())
}

#[test]
fn exact_names_are_asked_for_until_they_are_known() -> Result<()> {
    let lab = Lab::new()?;
    let address = SocketAddr::from(([17, 1, 2, 3], 53));
    let counters = Arc::new(Counters::new(&[address]));
    let upstreams = Arc::new(Upstreams::new(vec![address], Duration::from_millis(300), counters));
    let names = ["www", "many", "nothing"].map(|name| format!("{name}.lab.example").parse().unwrap());
    let mut schedule = Schedule::new(names, 100, Instant::now());
    let learned = Mutex::new(Vec::new());
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            lab.gateway.enter(|| {
                let resolving = resolver::run(&mut schedule, &upstreams, async |answer| {
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

#[test]
fn it_takes_little_time() -> Result<()> {
    const COUNT: usize = 1000;
    let lab = Lab::new()?;
    let resolver = Resolver::unbound(&lab, "17.1.2.3")?;
    let running = Running::start(&lab, &[&resolver])?;
    let query = dns::query("www.lab.example", A);
    let mut times = [(resolver.address, Vec::new()), (server(), Vec::new())];
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
