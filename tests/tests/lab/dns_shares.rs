//! How much of the LAN's DNS server one device, or one LAN, can take from others.

use std::{
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{
    Lab, Plan,
    dns::{self, A, PATIENCE},
    forwarder::SERVER,
    names::wait,
    product::Enforcer,
    upstream::Upstream,
};
use serde_json::Value;

/// The client's further addresses, and its queries from each of them.
const ADDRESSES: u8 = 64;
const QUERIES: u8 = 64;

fn address(number: u8) -> [u8; 4] {
    [10, 1, 0, 10 + number]
}

/// A LAN with a client that has many addresses, an upstream that answers for names that begin with "good"
/// alone, and the DNS server. The gateway has resolved the client's addresses before, or not.
fn lab(knows_neighbours: bool) -> Result<(Lab, Upstream, Enforcer)> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let link = lab.client.output("ip -oneline link show eth0")?;
    let mac = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).context("no MAC")?;
    let resolve = |address: IpAddr| {
        if !knows_neighbours {
            return Ok(());
        }
        lab.gateway.run(&format!("ip neigh replace {address} lladdr {mac} dev br-lan nud permanent"))
    };
    resolve([10, 1, 0, 2].into())?;
    for number in 0..ADDRESSES {
        let address = IpAddr::from(address(number));
        lab.client.run(&format!("ip addr add {address}/24 dev eth0"))?;
        resolve(address)?;
    }
    let upstream = Upstream::start(&lab, "17.1.2.3", |socket, from, query| {
        if query[13..17].eq_ignore_ascii_case(b"good") {
            let _ = socket.send_to(&dns::answer(query, A, 60, &[203, 0, 113, 1]), from);
        }
    })?;
    let run = "--lan port1 --lan port2 --wan wan0 --dns-listen 10.1.0.1:53 --dns-upstream 17.1.2.3";
    let enforcer = Enforcer::start(&lab, "default = \"drop\"\n", run)?;
    // The neighbour tables are read.
    thread::sleep(Duration::from_millis(300));
    Ok((lab, upstream, enforcer))
}

/// A counter of the DNS server.
fn count(enforcer: &Enforcer, counter: &str) -> Result<u64> {
    let status: Value = serde_json::from_str(&enforcer.ask("status --json")?)?;
    Ok(status["names"]["queries"][counter].as_u64().unwrap_or_default())
}

/// Sends queries for different names from all of the client's addresses, and answers none.
fn flood(lab: &Lab) -> Result<Vec<UdpSocket>> {
    lab.client.enter(|| {
        let send = |number: u8| -> Result<UdpSocket> {
            let socket = UdpSocket::bind(SocketAddr::from((address(number), 0)))?;
            socket.connect(SERVER)?;
            for query in 0..QUERIES {
                socket.send(&dns::query(&format!("n{query}.c{number}.lab.example"), A))?;
            }
            Ok(socket)
        };
        (0..ADDRESSES).map(send).collect()
    })
}

/// Whether somebody gets an answer while the flood goes on: its queries fail after 2 s.
fn is_served(lab: &Lab) -> Result<bool> {
    let _flood = flood(lab)?;
    let good = dns::query("good.lab.example", A);
    Ok(lab.neighbour.enter(|| dns::ask_udp(SERVER, &good, PATIENCE / 8))?.is_some())
}

#[test]
fn one_device_has_one_share_of_queries_for_all_its_addresses() -> Result<()> {
    let (lab, _upstream, enforcer) = lab(true)?;
    assert!(is_served(&lab)?, "others are not served");
    wait("the neighbour is answered", || Ok(count(&enforcer, "answers")? == 1))?;
    let queries = count(&enforcer, "queries")?;
    assert_eq!(queries, 64 + 1, "queries at a time");
    enforcer.stop()
}

#[test]
fn queries_from_many_addresses_leave_room_for_others() -> Result<()> {
    let (lab, _upstream, enforcer) = lab(false)?;
    assert!(is_served(&lab)?, "{}", enforcer.ask("status")?);
    assert!(count(&enforcer, "displaced")? > 1000, "{}", enforcer.ask("status")?);
    enforcer.stop()
}

#[test]
fn connections_from_many_addresses_leave_room_for_others() -> Result<()> {
    let (lab, _upstream, enforcer) = lab(false)?;
    let _streams: Vec<TcpStream> = lab.client.enter(|| {
        let connect = |number: u8| -> Result<TcpStream> {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((address(number % 16), 0)).into())?;
            socket.connect(&SERVER.into())?;
            Ok(socket.into())
        };
        (0..=255).map(connect).collect()
    })?;
    // The upstream does not listen there, which an answer says.
    let query = dns::query("good.lab.example", A);
    lab.neighbour.enter(|| dns::ask_tcp(SERVER, &query, PATIENCE))?;
    enforcer.stop()
}

#[test]
fn a_client_has_a_rate_of_queries_by_udp_and_tcp() -> Result<()> {
    const SENT: u32 = 1000;
    let (lab, _upstream, enforcer) = lab(true)?;
    let start = Instant::now();
    let answers = lab.client.enter(|| {
        let socket = dns::bind("0.0.0.0:0".parse()?)?;
        socket.connect(SERVER)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        for number in 0..SENT {
            socket.send(&dns::query(&format!("good{number}.lab.example"), A))?;
            // Few are under way at a time: it is the rate that counts.
            thread::sleep(Duration::from_micros(500));
        }
        let mut answers = 0;
        while socket.recv(&mut [0; 512]).is_ok() {
            answers += 1;
        }
        Ok(answers)
    })?;
    let most = 200 + (start.elapsed().as_secs_f64() * 100.0) as u32;
    assert!((100..=most).contains(&answers), "{answers} of {SENT} queries were answered, not {most}");
    assert!(count(&enforcer, "over_client_rate")? > 100, "{}", enforcer.ask("status")?);
    // By TCP, nothing is lost; queries that are refused count, too.
    let start = Instant::now();
    let zone = dns::query("zone.lab.example", 252);
    lab.client.enter(|| {
        let mut stream = TcpStream::connect(SERVER)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        for _ in 0..400 {
            dns::send(&stream, &zone)?;
        }
        for _ in 0..400 {
            dns::receive(&mut stream)?;
        }
        Ok(())
    })?;
    assert!(start.elapsed() > Duration::from_millis(1900), "400 in {:?}", start.elapsed());
    // The gateway itself has none.
    let own = lab.gateway.enter(|| {
        let answers = (0..500).map(|_| dns::ask_udp(SERVER, &zone, PATIENCE / 8));
        Ok(answers.filter(|answer| matches!(answer, Ok(Some(_)))).count())
    })?;
    assert_eq!(own, 500);
    enforcer.stop()
}
