//! Real clients of names, and resolvers that come and go.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{
    Lab,
    client::run,
    dns::{A, AAAA, rcodes::SERVFAIL},
    names::{POLICY, SHORT, ask, known, resolver, start, wait},
    probe::{self, Outcome::*},
    resolver::Resolver,
    server::{Servers, web},
};

/// A program of the internet's; dropping it ends it.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn time_server(lab: &Lab) -> Result<Program> {
    let pid = lab.path("time-server.pid");
    let config = format!("local stratum 1\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {}\n", pid.display());
    let file = lab.file("chrony.conf", &config)?;
    let output = File::create(lab.path("chronyd.log"))?;
    let command = ["netns", "exec", lab.internet.name(), "chronyd", "-d", "-x", "-u", "root", "-f"];
    let mut program = Command::new("ip");
    program.args(command).arg(file).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    Ok(Program(program.spawn()?))
}

#[test]
fn browsers_and_clocks_reach_names_at_their_first_attempt() -> Result<()> {
    let time = "[[service]]\nname = \"time\"\nto = [\"n2.fresh.lab.example\"]\nports = [\"udp/123\"]\n";
    let policy = format!("{}\n{time}", POLICY.replace("\"store\"]", "\"store\", \"time\"]"));
    let lab = Lab::new()?;
    let _resolver = resolver(&lab)?;
    web(&lab)?;
    let _clock = time_server(&lab)?;
    let enforcer = start(&lab, &policy)?;
    for family in ["-4", "-6"] {
        let (content, page) = run(&lab, &["curl", "-sS", family, "-m", "3", "http://n5.fresh.lab.example:443/"])?;
        assert!(content && page == "hello", "{page}");
    }
    let (_, addresses) = run(&lab, &["dig", "+short", "www.lab.example"])?;
    assert_eq!(addresses, "edge.cdn.example.\n203.0.113.40\n");
    // It only tells by how much the clock is wrong.
    let clock = |name: &str| {
        let server = format!("server {name} iburst maxsamples 1");
        let pid = format!("pidfile {}", lab.path("clock.pid").display());
        run(&lab, &["chronyd", "-Q", "-t", "6", "-u", "root", &server, &pid, "cmdport 0"])
    };
    let (content, told) = clock("n2.fresh.lab.example")?;
    assert!(content && told.contains("System clock wrong by"), "{told}");
    let counters = enforcer.counters()?;
    assert_eq!(counters["default"], 0, "a packet came before its address");
    assert!(counters["names/time"] > 0 && counters["names/web"] > 0);
    // Neither gets anywhere where no rule lets it.
    let (content, told) = clock("n3.fresh.lab.example")?;
    assert!(!content, "{told}");
    let (content, page) = run(&lab, &["curl", "-sS", "-m", "2", "http://many.lab.example:443/"])?;
    assert!(!content, "{page}");
    assert!(enforcer.counters()?["default"] > 0);
    enforcer.stop()
}

/// Waits for so long that all times that [`SHORT`] allows are over.
fn outlast() {
    thread::sleep(Duration::from_secs(5));
}

#[test]
fn nothing_that_was_allowed_ends_while_no_resolver_is_heard() -> Result<()> {
    let lab = Lab::new()?;
    let dnsmasq = resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = start(&lab, &format!("{POLICY}{SHORT}"))?;
    wait("www.lab.example is known", || Ok(known(&enforcer, "www.lab.example")?.len() == 2))?;
    ask(&lab, "n1.fresh.lab.example", A)?;
    drop(dnsmasq);
    let dropped = Instant::now();
    // The resolver is taken to be heard for ten seconds; names that are asked again meanwhile are not.
    let open = |what: &str, address: &str| -> Result<()> {
        assert_eq!(probe::tcp(&lab.client, address, 443)?, Answered, "{what}, {:?}", dropped.elapsed());
        Ok(())
    };
    for _ in 0..3 {
        open("an exact name", "203.0.113.40")?;
        open("an exact name", "2001:db8::40")?;
        outlast();
    }
    assert_eq!(ask(&lab, "n1.fresh.lab.example", A)?, SERVFAIL);
    let status = enforcer.ask("status")?;
    assert!(status.contains("does not answer") && status.contains("1 kept"), "{status}");
    let kept = known(&enforcer, "www.lab.example")?;
    assert!(kept.iter().all(|entry| entry.ends_with("kept live")), "{kept:?}");

    // Back again, what nobody asks for ends, and what is asked for goes on.
    let _resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    wait("it is resolved again", || {
        Ok(known(&enforcer, "www.lab.example")?.iter().all(|entry| entry.contains("resolved")))
    })?;
    wait("n1 ends", || Ok(known(&enforcer, "n1.fresh.lab.example")?.is_empty()))?;
    outlast();
    open("an exact name", "203.0.113.40")?;
    enforcer.stop()
}

#[test]
fn addresses_of_clients_names_outlive_an_outage() -> Result<()> {
    let lab = Lab::new()?;
    let dnsmasq = resolver(&lab)?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    // Longer than a resolver is taken to be heard for.
    let policy = format!("{POLICY}\n[names]\nfloor = 12\nceiling = 12\ngrace = 1\n");
    let enforcer = start(&lab, &policy)?;
    ask(&lab, "n1.fresh.lab.example", A)?;
    ask(&lab, "n1.fresh.lab.example", AAAA)?;
    drop(dnsmasq);
    thread::sleep(Duration::from_secs(18));
    for address in ["203.0.116.1", "2001:db8:cd::1"] {
        assert_eq!(probe::tcp(&lab.client, address, 443)?, Answered, "{address}");
    }
    let _resolver = Resolver::dnsmasq(&lab, "17.1.2.3")?;
    let draining = |entry: &String| entry.ends_with("draining");
    wait("its time is over", || Ok(known(&enforcer, "n1.fresh.lab.example")?.iter().all(draining)))?;
    assert_eq!(probe::tcp(&lab.client, "203.0.116.1", 443)?, Silence);
    enforcer.stop()
}

#[test]
fn unbound_with_wildcards_aliases_and_large_answers_is_understood() -> Result<()> {
    let lab = Lab::new()?;
    for local in ["203.0.113.0/24", "2001:db8::/64"] {
        lab.internet.run(&format!("ip route add local {local} dev lo"))?;
    }
    let _resolver = Resolver::unbound(&lab, "17.1.2.3")?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let many = POLICY.replace("\"www.lab.example\"", "\"www.lab.example\", \"*.old.lab.example\", \"*.lab.example\"");
    let enforcer = start(&lab, &many)?;
    // The 60 addresses of `many` do not fit into 512 bytes: a client without EDNS asks again by TCP.
    let (_, addresses) = run(&lab, &["dig", "+short", "+noedns", "many.lab.example"])?;
    assert_eq!(addresses.lines().filter(|line| line.starts_with("203.0.113.")).count(), 60, "{addresses}");
    assert_eq!(known(&enforcer, "many.lab.example")?.len(), 60);
    for (name, address) in [
        ("a.b.wild.lab.example", "203.0.113.50"),
        ("www.lab.example", "203.0.113.40"),
        ("edge.old.lab.example", "2001:db8::40"),
        ("many.lab.example", "203.0.113.59"),
    ] {
        let kind = if address.contains(':') { "AAAA" } else { "A" };
        let (_, told) = run(&lab, &["dig", "+short", name, kind])?;
        assert!(told.contains(address), "{name}: {told}");
        assert_eq!(probe::tcp(&lab.client, address, 443)?, Answered, "{name}");
    }
    let counters = enforcer.counters()?;
    assert_eq!(counters["default"], 0);
    enforcer.stop().context("at the end")
}
