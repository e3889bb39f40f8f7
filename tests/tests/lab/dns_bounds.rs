//! The LAN's DNS server against those who mean it ill, and those who ask too much.

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer::dns::forwarder::Limits;
use enforcer_tests::lab::{
    Lab,
    dns::{
        self, A, PATIENCE, TXT,
        rcodes::{FORMERR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL},
    },
    forwarder::{Record, Running, SERVER, ask_at_once},
    product::Enforcer,
    resolver::Resolver,
    upstream::Upstream,
};

#[test]
fn forged_answers_reach_nobody() -> Result<()> {
    const EVIL: [u8; 4] = [203, 0, 113, 66];
    let lab = Lab::new()?;
    let bind = |address: &str| lab.internet.enter(|| Ok(UdpSocket::bind(address)?));
    let (other_port, other_address) = (bind("17.1.2.3:5353")?, bind("17.253.4.5:53")?);
    let upstream = Upstream::start(&lab, "17.1.2.3", move |socket, from, query| {
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
        let mut other_case = forged.clone();
        for letter in other_case[12..query.len() - 4].iter_mut().filter(|byte| byte.is_ascii_alphabetic()) {
            *letter ^= 0x20;
        }
        // Another id, a query, an update, no question, another name and case of it, type and class, cut off, nothing, noise.
        let class = query.len() - 1;
        let wrong = [
            changed(0, !query[0]),
            changed(2, 1),
            changed(2, 0xa9),
            changed(5, 0),
            changed(13, b'x'),
            other_case,
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
        send(socket, &dns::answer(query, A, 60, &[203, 0, 113, 1]));
        send(socket, &forged);
    })?;
    let running = Running::configured(&lab, vec![upstream.address], Limits::default(), Record::default())?;
    for _ in 0..20 {
        let query = dns::query("wWw.lab.example", A);
        let answer = lab.client.enter(|| dns::ask_udp(SERVER, &query, PATIENCE))?.context("no answer")?;
        assert_eq!(answer, dns::answer(&query, A, 60, &[203, 0, 113, 1]));
    }
    assert_eq!(running.learned(), vec!["www.lab.example 203.0.113.1 60"; 20]);
    let counters = running.counters();
    assert_eq!((counters.mismatched, counters.answers, counters.timeouts), (220, 20, 0), "{counters:?}");
    Ok(())
}

#[test]
fn ports_and_ids_towards_upstreams_are_random() -> Result<()> {
    let lab = Lab::new()?;
    let (sender, seen) = std::sync::mpsc::channel();
    let upstream = Upstream::start(&lab, "17.1.2.3", move |socket, from, query| {
        let _ = sender.send((from.port(), [query[0], query[1]]));
        let _ = socket.send_to(&dns::answer(query, A, 60, &[203, 0, 113, 1]), from);
    })?;
    let running = Running::configured(&lab, vec![upstream.address], Limits::default(), Record::default())?;
    for _ in 0..200 {
        let query = dns::query("www.lab.example", A);
        lab.client.enter(|| dns::ask_udp(SERVER, &query, PATIENCE))?.context("no answer")?;
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
fn a_thousand_queries_at_once_are_answered() -> Result<()> {
    const COUNT: u16 = 1000;
    let lab = Lab::new()?;
    // Answers only when all have asked, and the last one first.
    let mut waiting = Vec::new();
    let upstream = Upstream::start(&lab, "17.1.2.3", move |socket, from, query| {
        waiting.push((from, dns::answer(query, A, 60, &[203, 0, 113, 1])));
        if waiting.len() == usize::from(COUNT) {
            for (from, answer) in waiting.drain(..).rev() {
                let _ = socket.send_to(&answer, from);
            }
        }
    })?;
    let limits = Limits { queries_per_client: COUNT.into(), upstream: PATIENCE, ..Limits::default() };
    let running = Running::configured(&lab, vec![upstream.address], limits, Record::default())?;
    let ids = ask_at_once(&lab, COUNT, "lab.example");
    let counters = running.counters();
    let mut ids = ids.with_context(|| format!("{counters:?}"))?;
    assert_eq!((distinct(&mut ids), counters.answers), (usize::from(COUNT), u64::from(COUNT)));
    assert_eq!(running.learned().len(), usize::from(COUNT));
    Ok(())
}

#[test]
fn a_client_has_its_share_and_no_more() -> Result<()> {
    let lab = Lab::new()?;
    let upstream = Upstream::start(&lab, "17.1.2.3", |_, _, _| {})?;
    let limits = Limits { queries_per_client: 10, upstream: Duration::from_millis(1500), ..Limits::default() };
    let running = Running::configured(&lab, vec![upstream.address], limits, Record::default())?;
    let query = dns::query("www.lab.example", A);
    // The gateway knows whose the addresses are before it is asked.
    lab.client.run("ping -c 1 10.1.0.1")?;
    lab.client.run("ping -c 1 fd00:1::1")?;
    thread::sleep(Duration::from_millis(300));
    let failed = lab.client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(SERVER)?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        for _ in 0..50 {
            socket.send(&query)?;
        }
        // By TCP, the queries over the limit wait; those by UDP have taken all places.
        thread::sleep(Duration::from_millis(200));
        let mut stream = TcpStream::connect(SERVER)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        for _ in 0..15 {
            dns::send(&stream, &query)?;
        }
        // Another address of the same device has no share of its own.
        assert!(dns::ask_udp("[fd00:1::1]:53".parse()?, &query, Duration::from_millis(500))?.is_none());
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
    assert_eq!((failed, counters.over_limit), (10, 41), "{counters:?}");
    Ok(())
}

#[test]
fn garbage_is_told_or_ignored() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    let running = Running::start(&lab, &[&resolver])?;
    let query = dns::query("www.lab.example", A);
    let soon = Duration::from_secs(1);
    let ask = |message: &[u8]| -> Result<Option<u8>> {
        Ok(dns::ask_udp(SERVER, message, soon)?.map(|answer| dns::rcode(&answer)))
    };
    let changed = |at: usize, value: u8| {
        let mut message = query.clone();
        message[at] = value;
        message
    };
    lab.client.enter(|| {
        assert_eq!(ask(&changed(2, 0x81))?, None, "an answer");
        assert_eq!(ask(&query[..5])?, None);
        assert_eq!(ask(&query[..16])?, Some(FORMERR), "cut off");
        assert_eq!(ask(&changed(5, 2))?, Some(FORMERR), "two questions");
        assert_eq!(ask(&changed(5, 0))?, Some(FORMERR), "no question");
        assert_eq!(ask(&changed(2, 5 << 3))?, Some(NOTIMP), "an update");
        assert_eq!(ask(&dns::query("lab.example", 252))?, Some(REFUSED), "a zone transfer");
        assert_eq!(ask(&dns::query("nothing.lab.example", A))?, Some(NXDOMAIN));
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(SERVER)?;
        for length in 0..500 {
            let noise: Vec<u8> = (0..length).map(|_| rand::random()).collect();
            socket.send(&noise)?;
        }
        // Still there.
        thread::sleep(Duration::from_millis(200));
        assert!(dns::ask_udp(SERVER, &query, PATIENCE)?.is_some());
        Ok(())
    })?;
    assert_eq!(running.counters().unreadable, 0);
    Ok(())
}

/// A query with an EDNS option that fills it up to a length.
fn padded(name: &str, length: usize) -> Vec<u8> {
    let query = dns::query(name, A);
    let padding = length - query.len() - 11 - 4;
    let option = [&[0, 12, (padding >> 8) as u8, padding as u8][..], &vec![0; padding]].concat();
    dns::with_edns(query, 1232, false, &option)
}

#[test]
fn long_queries_are_refused_and_take_no_memory() -> Result<()> {
    const CLIENTS: u8 = 8;
    let lab = Lab::new()?;
    // It never answers: all queries wait for it.
    let (sender, seen) = std::sync::mpsc::channel();
    let _upstream = Upstream::start(&lab, "17.1.2.3", move |_, _, query| {
        let _ = sender.send(query.len());
    })?;
    let _by_tcp = lab.internet.enter(|| Ok(TcpListener::bind("17.1.2.3:53")?))?;
    let run = "--lan lan0 --wan wan0 --dns-listen 10.1.0.1:53 --dns-upstream 17.1.2.3";
    let enforcer = Enforcer::start(&lab, "default = \"drop\"\n", run)?;
    for client in 0..CLIENTS {
        lab.client.run(&format!("ip addr add 10.1.0.{}/24 dev eth0", 10 + client))?;
    }
    lab.client.enter(|| {
        let refused = |query: &[u8]| -> Result<bool> {
            let mut stream = TcpStream::connect(SERVER)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            dns::send(&stream, query)?;
            let first = dns::rcode(&dns::receive(&mut stream)?);
            // The connection goes on.
            dns::send(&stream, &dns::query("nothing", 252))?;
            assert_eq!(dns::rcode(&dns::receive(&mut stream)?), REFUSED);
            Ok(first == REFUSED)
        };
        assert!(!refused(&padded("at.tcp.example", 4096))? && refused(&padded("over.tcp.example", 4097))?);
        for (length, code) in [(1232, SERVFAIL), (1233, REFUSED)] {
            let answer = dns::ask_udp(SERVER, &padded("udp.example", length), PATIENCE)?.context("no answer")?;
            assert_eq!(dns::rcode(&answer), code, "{length}");
        }
        Ok(())
    })?;
    let memory = || -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", enforcer.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
    };
    let before = memory()?;
    let _streams = lab.client.enter(|| {
        let mut streams = Vec::new();
        for client in 0..CLIENTS {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::from(([10, 1, 0, 10 + client], 0)).into())?;
            socket.connect(&SERVER.into())?;
            let stream = TcpStream::from(socket);
            for number in 0..60 {
                dns::send(&stream, &padded(&format!("n{number}.c{client}.example"), 65_535))?;
            }
            streams.push(stream);
        }
        Ok(streams)
    })?;
    let start = Instant::now();
    let mut most = 0;
    while start.elapsed() < Duration::from_secs(1) {
        most = most.max(memory()?);
        thread::sleep(Duration::from_millis(20));
    }
    assert!(most < before + 16, "{before} MB before, {most} MB with {CLIENTS} x 60 queries of 65,535 bytes");
    assert!(seen.try_iter().all(|length| length <= 4096), "a long query was forwarded");
    enforcer.stop()
}

#[test]
fn connections_carry_many_queries_and_none_is_held_for_long() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = Resolver::unbound(&lab, "17.1.2.3")?;
    let limits = Limits { idle: Duration::from_millis(500), connections_per_client: 8, ..Limits::default() };
    let running = Running::configured(&lab, vec![resolver.address], limits, Record::default())?;
    let connect = || -> Result<TcpStream> {
        let stream = TcpStream::connect(SERVER)?;
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

        // What is behind the question is the upstream's affair, and this makes no sense.
        let mut stream = connect()?;
        let mut huge = query.clone();
        huge.resize(4096, 0);
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
        assert!(dns::receive(&mut streams[8]).is_err());
        assert!(dns::ask_udp(SERVER, &query, PATIENCE)?.is_some());
        Ok(())
    })?;
    assert_eq!(running.counters().connections_over_limit, 1);
    Ok(())
}
