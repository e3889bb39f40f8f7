//! Names from clients' questions to the kernel: a real resolver, real connections.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use enforcer::{
    catalog::Catalogs,
    compile::{self, Addresses, Limits},
    kernel::object::Object,
    net::{Facts, NetImage, image::Roles},
    policy::{Policy, ServiceId},
};
use enforcer_tests::lab::{
    Lab,
    dns::{self, A, AAAA, PATIENCE, rcodes::SERVFAIL},
    forwarder::SERVER,
    names::{FRESH, POLICY, SHORT, addresses, ask, known, resolver, start, wait},
    probe::{self, Outcome::*},
    server::Servers,
};
use serde_json::Value;

#[test]
fn the_first_packet_to_a_fresh_name_passes() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = start(&lab, POLICY)?;
    let start = Instant::now();
    for number in 1..=FRESH {
        let (v4, v6) = addresses(number);
        for (kind, address) in [(A, &v4), (AAAA, &v6)] {
            // A client may send a hundred queries a second.
            thread::sleep(Duration::from_millis(10));
            assert_eq!(ask(&lab, &format!("n{number}.fresh.lab.example"), kind)?, 0);
            // It waits for less than a second, after which a SYN would be sent again.
            assert_eq!(probe::tcp(&lab.client, address, 443)?, Answered, "{address}");
        }
    }
    println!("{} names asked for and connected to in {:?}", 2 * FRESH, start.elapsed());
    assert_eq!(enforcer.counters()?["default"], 0, "a packet came before its address");
    // Other ports of a name's addresses are others.
    assert_eq!(probe::tcp(&lab.client, &addresses(1).0, 80)?, Silence);
    assert_eq!(known(&enforcer, "*.fresh.lab.example")?.len(), 2 * FRESH as usize);
    assert_eq!(
        known(&enforcer, "n7.fresh.lab.example")?,
        ["n7.fresh.lab.example 203.0.116.7 asked live", "n7.fresh.lab.example 2001:db8:cd::7 asked live"]
    );
    let status = enforcer.ask("status")?;
    assert!(status.contains("17.1.2.3:53 well, 0 failures"), "{status}");
    enforcer.stop()
}

#[test]
fn what_a_name_is_an_alias_of_opens_and_what_no_rule_names_does_not() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = start(&lab, POLICY)?;
    // An exact name is known before anybody asks: an alias of a content network's.
    wait("www.lab.example is known", || Ok(known(&enforcer, "www.lab.example")?.len() == 2))?;
    assert!(known(&enforcer, "www.lab.example")?[0].ends_with(" resolved live"));
    for address in ["203.0.113.40", "2001:db8::40"] {
        assert_eq!(probe::tcp(&lab.client, address, 443)?, Answered, "{address}");
    }
    assert_eq!(probe::tcp(&lab.client, "203.0.113.50", 443)?, Silence);
    assert_eq!(ask(&lab, "a.b.wild.lab.example", A)?, 0);
    assert_eq!(probe::tcp(&lab.client, "203.0.113.50", 443)?, Answered);
    for (name, address) in [("many.lab.example", "203.0.113.9"), ("rebound.wild.lab.example", "192.168.7.7")] {
        assert_eq!(ask(&lab, name, A)?, 0);
        assert_eq!(known(&enforcer, name)?, [""; 0]);
        assert_eq!(probe::tcp(&lab.client, address, 443)?, Silence, "{name}");
    }
    let status: Value = serde_json::from_str(&enforcer.ask("status --json")?)?;
    assert_eq!(status["names"]["refused"], 1);
    enforcer.stop()
}

#[test]
fn the_gateways_own_policy_knows_names_too() -> Result<()> {
    const ROUTER: &str = r#"
[[service]]
name = "resolver"
to = ["17.1.2.3"]
ports = ["udp/53", "tcp/53"]

[router]
default = "drop"

[[router.rule]]
action = "allow"
services = ["resolver", "store"]
"#;
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = start(&lab, &format!("{POLICY}{ROUTER}"))?;
    wait("www.lab.example is known", || Ok(known(&enforcer, "www.lab.example")?.len() == 2))?;
    ask(&lab, "a.wild.lab.example", A)?;
    for (address, from_client, from_gateway) in [
        ("203.0.113.40", Answered, Answered),
        ("2001:db8::40", Answered, Answered),
        ("203.0.113.50", Answered, Silence),
    ] {
        assert_eq!(probe::tcp(&lab.client, address, 443)?, from_client, "{address}");
        assert_eq!(probe::tcp(&lab.gateway, address, 443)?, from_gateway, "{address}");
    }
    enforcer.stop()
}

/// A connection to a server that says everything again.
fn echo(lab: &Lab, address: SocketAddr) -> Result<TcpStream> {
    let listener = lab.internet.enter(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, address.port()))?))?;
    thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        std::io::copy(&mut stream.try_clone()?, &mut stream)
    });
    let stream = lab.client.enter(|| Ok(TcpStream::connect_timeout(&address, Duration::from_millis(500))?))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(stream)
}

fn says_again(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

#[test]
fn an_address_whose_time_is_over_takes_no_new_connections_and_those_that_stand_go_on() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = start(&lab, &format!("{POLICY}{SHORT}"))?;
    let (used, unused) = (addresses(1), addresses(2));
    for number in [1, 2] {
        ask(&lab, &format!("n{number}.fresh.lab.example"), A)?;
        ask(&lab, &format!("n{number}.fresh.lab.example"), AAAA)?;
    }
    let mut stream = echo(&lab, SocketAddr::new(used.0.parse()?, 5223))?;
    assert_eq!(probe::tcp(&lab.client, &unused.0, 443)?, Answered);
    let over = Instant::now() + Duration::from_secs(6);
    while Instant::now() < over {
        assert!(says_again(&mut stream));
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(known(&enforcer, "n1.fresh.lab.example")?, ["n1.fresh.lab.example 203.0.116.1 asked draining"]);
    for address in [&used.0, &used.1, &unused.0, &unused.1] {
        assert_eq!(probe::tcp(&lab.client, address, 443)?, Silence, "{address}");
    }
    assert!(says_again(&mut stream));
    // Asked again, it is open again.
    ask(&lab, "n1.fresh.lab.example", A)?;
    assert_eq!(probe::tcp(&lab.client, &used.0, 443)?, Answered);
    // In the end nobody uses it.
    wait("the address is gone", || Ok(known(&enforcer, "*.fresh.lab.example")?.is_empty()))?;
    assert!(!says_again(&mut stream));
    enforcer.stop()
}

#[test]
fn what_is_known_outlives_the_resolver_and_a_crash() -> Result<()> {
    let lab = Lab::new()?;
    let resolver = resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = start(&lab, POLICY)?;
    ask(&lab, "n1.fresh.lab.example", A)?;
    ask(&lab, "n1.fresh.lab.example", AAAA)?;
    drop(resolver);
    assert_eq!(ask(&lab, "n2.fresh.lab.example", A)?, SERVFAIL);
    let (v4, v6) = addresses(1);
    let open = || -> Result<()> {
        for address in [&v4, &v6] {
            assert_eq!(probe::tcp(&lab.client, address, 443)?, Answered, "{address}");
        }
        assert_eq!(probe::tcp(&lab.client, &addresses(2).0, 443)?, Silence);
        Ok(())
    };
    open()?;
    enforcer.kill()?;
    let enforcer = start(&lab, POLICY)?;
    open()?;
    assert!(known(&enforcer, "n1.fresh.lab.example")?[0].ends_with("203.0.116.1 restored live"));
    enforcer.stop()?;

    let file = lab.path("state").join("names.json");
    assert!(std::fs::read_to_string(&file)?.contains(&v4), "an end in order saves all");
    // A file that makes no sense is told, and is no reason not to start.
    std::fs::write(&file, "{\"version\":1,\"addr")?;
    let enforcer = start(&lab, POLICY)?;
    assert!(enforcer.log()?.contains("names are learned anew"), "{}", enforcer.log()?);
    assert_eq!(probe::tcp(&lab.client, &v4, 443)?, Silence);
    enforcer.stop()
}

#[test]
fn a_crash_while_names_are_learned_forgets_none_that_a_client_has() -> Result<()> {
    const ROUNDS: u32 = 4;
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let mut answered: Vec<u32> = Vec::new();
    for round in 0..ROUNDS {
        let enforcer = start(&lab, POLICY)?;
        thread::scope(|scope| -> Result<()> {
            let asking = scope.spawn(|| {
                let numbers = round * FRESH / ROUNDS + 1..=(round + 1) * FRESH / ROUNDS;
                // One that is killed says nothing: that ends it.
                let has_answer = |number: &u32| {
                    let query = dns::query(&format!("n{number}.fresh.lab.example"), A);
                    let patience = Duration::from_millis(500);
                    let answer = lab.client.enter(|| dns::ask_udp(SERVER, &query, patience));
                    answer.is_ok_and(|answer| answer.is_some())
                };
                numbers.take_while(has_answer).collect::<Vec<u32>>()
            });
            thread::sleep(Duration::from_millis(40 + 30 * u64::from(round)));
            enforcer.kill()?;
            answered.extend(asking.join().expect("no panic"));
            Ok(())
        })?;
    }
    println!("{} names were answered before {ROUNDS} crashes", answered.len());
    assert!(answered.len() > 4 * ROUNDS as usize, "{answered:?}");
    let enforcer = start(&lab, POLICY)?;
    let known = known(&enforcer, "*.fresh.lab.example")?;
    for number in &answered {
        let entry = format!("n{number}.fresh.lab.example {} restored live", addresses(*number).0);
        assert!(known.contains(&entry), "{entry}: {known:?}");
    }
    let last = addresses(answered[answered.len() - 1]).0;
    assert_eq!(probe::tcp(&lab.client, &last, 443)?, Answered);
    enforcer.stop()
}

#[test]
fn connections_that_drain_go_on_after_a_crash() -> Result<()> {
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let policy = format!("{POLICY}{SHORT}");
    let mut enforcer = start(&lab, &policy)?;
    let address = addresses(1).0;
    ask(&lab, "n1.fresh.lab.example", A)?;
    let mut stream = echo(&lab, SocketAddr::new(address.parse()?, 5223))?;
    for crash in 0..3 {
        wait("it drains", || {
            assert!(says_again(&mut stream), "crash {crash}");
            Ok(known(&enforcer, "n1.fresh.lab.example")?[0].ends_with("draining"))
        })?;
        assert_eq!(probe::tcp(&lab.client, &address, 443)?, Silence);
        enforcer.kill()?;
        enforcer = start(&lab, &policy)?;
        assert!(says_again(&mut stream), "crash {crash}");
    }
    wait("it ends when nobody uses it", || Ok(known(&enforcer, "n1.fresh.lab.example")?.is_empty()))?;
    enforcer.stop()
}

/// Tests that measure time. No other test runs beside them.
mod serial {
    use super::*;

    #[test]
    fn to_learn_and_to_note_takes_little_time() -> Result<()> {
        let lab = Lab::new()?;
        let dnsmasq = resolver(&lab)?;
        let enforcer = start(&lab, POLICY)?;
        // Asked directly, the query need not cross the gateway: that is part of what is measured.
        let mut times = [(&lab.gateway, dnsmasq.address, Vec::new()), (&lab.client, SERVER, Vec::new())];
        for number in 1..=FRESH {
            // A client may send a hundred queries a second.
            thread::sleep(Duration::from_millis(10));
            let query = dns::query(&format!("n{number}.fresh.lab.example"), A);
            for (place, server, times) in &mut times {
                let (server, query) = (*server, &query);
                times.push(place.enter(|| {
                    let start = Instant::now();
                    dns::ask_udp(server, query, PATIENCE)?;
                    Ok(start.elapsed())
                })?);
            }
        }
        let [direct, through] = times.map(|(_, _, mut times)| {
            times.sort_unstable();
            times[times.len() / 2]
        });
        println!("median of {FRESH} fresh names: {direct:?} asked directly, {through:?} through the product");
        assert!(through < direct + Duration::from_millis(2), "{direct:?} directly, {through:?} through the product");
        assert_eq!(known(&enforcer, "*.fresh.lab.example")?.len(), FRESH as usize);
        enforcer.stop()
    }

    #[test]
    fn addresses_reach_the_kernel_as_fast_as_a_network_learns_them() -> Result<()> {
        const COUNT: u32 = 60_000;
        let policy = Policy::parse("names", POLICY, &Catalogs::default())?;
        let mut image = compile::compile(&policy, &Limits::default(), 0x1234_5678)?;
        let mut live = std::mem::take(&mut image.live);
        let net = NetImage::new(&Facts::default(), &Roles::default(), image.words)?;
        let mut object = Object::load(&image, &net)?;
        let mut addresses = Addresses::new(&[]);
        let v4 = |number: u32| IpAddr::from(Ipv4Addr::from_bits(0x1100_0000 + number * 7));
        let v6 = |number: u32| IpAddr::from(Ipv6Addr::from_bits(0x2620_0149 << 96 | u128::from(number) << 40));
        for (family, address) in [("IPv4", &v4 as &dyn Fn(u32) -> IpAddr), ("IPv6", &v6)] {
            let rate = |start: Instant| f64::from(COUNT) / start.elapsed().as_secs_f64();
            let start = Instant::now();
            for number in 0..COUNT {
                addresses.set(object.memory(), &mut live, address(number), &[ServiceId(number % 2)], false, 0)?;
            }
            let stored = rate(start);
            for number in 0..COUNT {
                assert!(!addresses.epochs(object.tables(), address(number)).is_empty());
            }
            let start = Instant::now();
            for number in 0..COUNT {
                addresses.remove(object.memory(), address(number));
            }
            println!("{family}: {stored:.0} addresses stored a second, {:.0} removed", rate(start));
            // Ten times this in a release build; debug builds and loaded machines have their share.
            ensure!(stored > 50_000.0, "{stored:.0} a second");
            assert!(addresses.epochs(object.tables(), address(1)).is_empty());
        }
        Ok(())
    }
}
