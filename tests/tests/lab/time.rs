//! What changes with time: rules by their schedules, connections from outside by their time-outs.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use enforcer_tests::lab::{
    Lab,
    probe::{self, Outcome::*},
    product::Enforcer,
    server::Servers,
};

/// Seconds since the epoch, whose first day was a Thursday.
fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// A minute of the week as a policy writes it.
fn written(seconds: u64) -> String {
    let days = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
    let (day, hour, minute) = (days[(seconds / 86_400 % 7) as usize], seconds / 3600 % 24, seconds / 60 % 60);
    let end = if (hour, minute) == (23, 59) { "24:00".into() } else { format!("{hour:02}:{:02}", minute + 1) };
    let end = if minute == 59 && hour < 23 { format!("{:02}:00", hour + 1) } else { end };
    format!("{day} {hour:02}:{minute:02}-{end}")
}

#[test]
fn a_rule_applies_while_its_schedule_does() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[443, 444], &[])?;
    // Not in a minute's last seconds: the schedule would begin while the test looks at what holds before.
    if now()? % 60 > 50 {
        thread::sleep(Duration::from_secs(60 - now()? % 60));
    }
    let next = (now()? / 60 + 1) * 60;
    let policy = format!(
        r#"
default = "drop"
[[schedule]]
name = "soon"
zone = "UTC"
times = ["{}"]
[[service]]
name = "web"
to = ["17.0.0.0/8"]
ports = ["tcp/443"]
[[service]]
name = "other"
to = ["17.0.0.0/8"]
ports = ["tcp/444"]
[[rule]]
action = "drop"
services = ["other"]
when = "soon"
[[rule]]
action = "allow"
services = ["other"]
[[rule]]
action = "allow"
services = ["web"]
when = "soon"
"#,
        written(next)
    );
    let enforcer = Enforcer::start(&lab, &policy, "--lan lan0 --wan wan0")?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Silence);
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 444)?, Answered);
    assert!(!enforcer.ask("status")?.contains("soon"));
    // Up to two seconds: the controller looks at the clock each second.
    thread::sleep(Duration::from_secs(next.saturating_sub(now()?) + 2));
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 444)?, Silence);
    assert!(enforcer.ask("status")?.contains("soon"));
    enforcer.stop()
}

#[test]
fn replies_pass_until_their_connections_time_out() -> Result<()> {
    let lab = Lab::new()?;
    let policy = r#"
default = "drop"
[inbound]
default = "allow"
[inbound.timeouts]
udp = 3
udp-opening = 1
"#;
    let enforcer = Enforcer::start(&lab, policy, "--lan lan0 --wan wan0")?;
    let bound = |address: &str| {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        anyhow::Ok(socket)
    };
    let inside = lab.client.enter(|| bound("10.1.0.2:53"))?;
    let asks = |outside: &UdpSocket| -> Result<SocketAddr> {
        outside.send_to(b"question", "10.1.0.2:53")?;
        Ok(inside.recv_from(&mut [0; 16])?.1)
    };
    let answers = |outside: &UdpSocket, to: SocketAddr| -> Result<bool> {
        inside.send_to(b"answer", to)?;
        Ok(outside.recv_from(&mut [0; 16]).is_ok())
    };
    // Not answered in a second: forgotten.
    let outside = lab.internet.enter(|| bound("203.0.113.9:5000"))?;
    let from = asks(&outside)?;
    thread::sleep(Duration::from_millis(2100));
    assert!(!answers(&outside, from)?);
    // Answered at once: remembered for longer, but not for good.
    let outside = lab.internet.enter(|| bound("203.0.113.9:5001"))?;
    let from = asks(&outside)?;
    assert!(answers(&outside, from)?);
    thread::sleep(Duration::from_millis(1900));
    assert!(answers(&outside, from)?);
    thread::sleep(Duration::from_millis(4100));
    assert!(!answers(&outside, from)?);
    // Asked again, it may answer again.
    let from = asks(&outside)?;
    assert!(answers(&outside, from)?);
    enforcer.stop()
}
