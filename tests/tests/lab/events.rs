//! What operators are told of single packets.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Stdio,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{
    Lab, Plan, Wan,
    probe::{self, Outcome::*},
    product::Enforcer,
    server::Servers,
};
use serde_json::Value;

const POLICY: &str = r#"
default = "drop"

[[service]]
name = "web"
to = ["17.0.0.0/8", "2620:149::/32"]
ports = ["tcp/443"]

[[service]]
name = "games"
to = ["203.0.113.0/24", "2001:db8:bad::/48"]
ports = ["tcp/443", "udp/443"]

[[rule]]
name = "watched"
action = "drop"
monitor = true
services = ["games"]

[[rule]]
name = "logged"
action = "allow"
services = ["web"]
log = true
"#;

/// Events so far, when there are at least so many.
fn events(enforcer: &Enforcer, least: usize, arguments: &str) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for _ in 0..100 {
        let lines = enforcer.ask(&format!("events --json {arguments}"))?;
        events = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        if events.len() >= least {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    anyhow::ensure!(events.len() >= least, "{} events, not {least}: {events:?}", events.len());
    Ok(events)
}

/// Events without their times, ports of clients and lengths, as people read them: each once, as connections' ends overlap.
fn told(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut told: Vec<String> = events
        .iter()
        .map(|event| {
            let flow = &event["flow"];
            let words = ["action", "hook", "interface", "rule", "service", "reason"].map(|key| text(&event[key]));
            let to = format!("{} {}", text(&flow["destination"]), flow["destination_port"]);
            format!("{} from {} to {to} by {}", words.join(" "), text(&flow["source"]), flow["protocol"])
        })
        .collect();
    let mut seen = HashSet::new();
    told.retain(|event| seen.insert(event.clone()));
    told
}

/// Each kind of hook tells alike.
fn tells(lab: &Lab, lan: &str, wan_word: &str) -> Result<()> {
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let enforcer = Enforcer::start(lab, POLICY, &format!("--lan {lan} --wan wan0"))?;
    assert_eq!(probe::tcp(&lab.client, "198.51.100.2", 443)?, Silence);
    assert_eq!(probe::tcp(&lab.client, "2001:db8:bad::1", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    let events = events(&enforcer, 9, "")?;
    assert_eq!(
        told(&events),
        [
            format!("drop lan {wan_word} - - default from 10.1.0.2 to 198.51.100.2 443 by 6"),
            format!("monitor lan {wan_word} watched games - from fd00:1::2 to 2001:db8:bad::1 443 by 6"),
            format!("allow lan {wan_word} logged web - from 10.1.0.2 to 17.1.2.3 443 by 6"),
        ]
    );
    // As many as were counted, once the connections' last packets have come.
    let both = || -> Result<_> {
        let games = enforcer.ask("events --json --service games")?;
        let events = self::events(&enforcer, 9, "")?;
        let of = |rule: &str| events.iter().filter(|event| event["rule"] == rule).count() as u64;
        let counters = enforcer.counters()?;
        let counted = [counters["watched/games"], counters["logged/web"], counters["watched/games"]];
        Ok(([of("watched"), of("logged"), games.lines().count() as u64], counted, games))
    };
    let (mut told, mut counted, mut games) = both()?;
    for _ in 0..100 {
        if told == counted {
            break;
        }
        thread::sleep(Duration::from_millis(20));
        (told, counted, games) = both()?;
    }
    assert_eq!(told, counted);
    assert!(games.lines().all(|line| line.contains(r#""service":"games""#)));
    let text = enforcer.ask("events --service web")?;
    let line = text.lines().next().context("no event")?;
    assert!(line.contains("Z  allow ") && line.ends_with("-> 17.1.2.3:443 tcp, rule logged, service web"), "{line}");
    enforcer.stop()
}

#[test]
fn xdp_tells_what_it_denied_and_what_rules_log_or_monitor() -> Result<()> {
    tells(&Lab::new()?, "lan0", "lan0")
}

#[test]
fn tc_tells_the_same() -> Result<()> {
    tells(&Lab::planned(Plan { bridged: true, ..Plan::default() })?, "br-lan", "br-lan")
}

#[test]
fn the_gateways_own_packets_and_malformed_ones_are_told_with_their_reason() -> Result<()> {
    let lab = Lab::planned(Plan { wan: Wan::Tunnel, ..Plan::default() })?;
    let policy = format!("{POLICY}\n[router]\ndefault = \"drop\"\n");
    let on = "net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.lan0.accept_source_route=1";
    lab.gateway.run(&format!("sysctl -qw {on}"))?;
    let enforcer = Enforcer::start(&lab, &policy, "--lan lan0 --wan wan0")?;
    probe::source_routed(&lab.client, "17.253.4.5", 123)?;
    assert_eq!(probe::udp(&lab.gateway, "203.0.113.9", 53, 20)?, Silence);
    let told = told(&events(&enforcer, 2, "")?);
    assert!(told[0].starts_with("drop lan lan0 - - source-route: a source route or routing header"), "{told:?}");
    assert_eq!(told[1], "drop router wan0 - - router-default from 198.51.100.1 to 203.0.113.9 53 by 17");
    enforcer.stop()
}

#[test]
fn one_in_so_many_packets_is_told_where_a_rule_says_so() -> Result<()> {
    let lab = Lab::new()?;
    let policy = POLICY.replace("log = true", "log = \"1/10\"").replace("tcp/443\"]", "tcp/443\", \"udp/9\"]");
    let enforcer = Enforcer::start(&lab, &policy, "--lan lan0 --wan wan0")?;
    probe::udp_flood(&lab.client, "17.1.2.3", 9, 4000)?;
    let told = events(&enforcer, 300, "")?.len();
    assert_eq!(enforcer.counters()?["logged/web"], 4000);
    // Four hundred are to be expected; a hundred fewer or more is five times what chance does.
    assert!((300..500).contains(&told), "{told} of 4000");
    enforcer.stop()
}

#[test]
fn a_flood_of_denied_packets_is_told_in_part_and_the_loss_is_counted() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    probe::udp_flood(&lab.client, "198.51.100.2", 9, 20_000)?;
    events(&enforcer, 1000, "")?;
    let lost = || -> Result<u64> {
        let status: Value = serde_json::from_str(&enforcer.ask("status --json")?)?;
        status["events_lost"].as_u64().context("no events_lost")
    };
    // Without another packet that would bring the count along.
    thread::sleep(Duration::from_millis(2500));
    let all = lost()?;
    assert_eq!(enforcer.counters()?["default"], 20_000);
    assert!((10_000..20_000).contains(&all), "{all} lost");
    probe::udp_flood(&lab.client, "198.51.100.2", 9, 1)?;
    thread::sleep(Duration::from_millis(1500));
    let lost = lost()?;
    assert_eq!(lost, all, "the count came late");
    let status = enforcer.ask("status")?;
    let line = status.lines().find(|line| line.starts_with("events lost")).context("no such line")?;
    assert!(line.ends_with(&format!(" {lost}")), "{line}");
    enforcer.stop()
}

#[test]
fn followed_events_end_with_their_reader() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    probe::udp_flood(&lab.client, "198.51.100.2", 9, 1)?;
    let mut follower = enforcer.command("events --follow").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(follower.stdout.take().context("no pipe")?).read_line(&mut line)?;
    assert!(line.contains("198.51.100.2"), "{line}");
    // No other event comes.
    let ended = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(50));
        matches!(follower.try_wait(), Ok(Some(status)) if status.success())
    });
    let _ = follower.kill();
    follower.wait()?;
    assert!(ended, "it waits for an event that nobody reads");
    enforcer.stop()
}

#[test]
fn readers_that_never_read_leave_room_for_others() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    let mut readers = Vec::new();
    for _ in 0..48 {
        let mut reader = UnixStream::connect(lab.path("socket"))?;
        reader.write_all(b"GET /v1/events/stream HTTP/1.1\r\nhost: enforcer\r\n\r\n")?;
        // The head of the answer: the place is taken.
        reader.read_exact(&mut [0; 12])?;
        readers.push(reader);
    }
    assert!(enforcer.ask("status")?.contains("native XDP"));
    let refused = enforcer.ask("events --follow").expect_err("no place").to_string();
    assert!(refused.contains("too many streams"), "{refused}");
    drop(readers.pop());
    thread::sleep(Duration::from_millis(300));
    let mut reader = UnixStream::connect(lab.path("socket"))?;
    reader.write_all(b"GET /v1/events/stream?sevice=web HTTP/1.1\r\nhost: enforcer\r\n\r\n")?;
    let mut answer = [0; 12];
    reader.read_exact(&mut answer)?;
    assert_eq!(&answer, b"HTTP/1.1 400");
    enforcer.stop()
}
