//! What Prometheus is told of the running product, by Prometheus' own tools.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::TcpStream,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use aya::sys::{Stats, enable_stats};
use enforcer_tests::lab::{
    Lab, names,
    probe::{self, Outcome::*},
    product::Enforcer,
    root,
    server::Servers,
    tool,
};
use serde_json::Value;

const POLICY: &str = r#"
default = "drop"

[[service]]
name = "web"
to = ["17.0.0.0/8", "*.example.org"]
ports = ["tcp/443"]

[[rule]]
name = "apple"
action = "allow"
services = ["web"]
"#;

const LISTEN: &str = "127.0.0.1:9100";

/// A running product that does all that is measured: it serves DNS, hears a resolver, and serves metrics over TCP.
fn start(lab: &Lab) -> Result<Enforcer> {
    Enforcer::start(
        lab,
        POLICY,
        &format!(
            "--lan lan0 --wan wan0 --dns-listen 10.1.0.1:5353 --dns-snoop 10.1.0.1 --dns-upstream 17.1.2.3 --metrics-listen {LISTEN} --metrics-host enforcer"
        ),
    )
}

/// The answer over TCP to a GET, with further headers of a line each.
fn get(lab: &Lab, path: &str, headers: &str) -> Result<String> {
    let mut stream = lab.gateway.enter(|| Ok(TcpStream::connect(LISTEN)?))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: enforcer\r\nconnection: close\r\n{headers}\r\n")?;
    Ok(std::io::read_to_string(stream)?)
}

fn metrics(lab: &Lab) -> Result<String> {
    let answer = get(lab, "/metrics", "")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
    assert!(head.contains("200 OK") && head.contains("text/plain; version=0.0.4"), "{head}");
    Ok(body.into())
}

/// A sample's value by its line's beginning.
fn value(metrics: &str, sample: &str) -> Result<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {sample} in\n{metrics}"))?.parse()?)
}

/// Runs promtool on a file, or on a text.
fn promtool(arguments: &[&str], input: &str) -> Result<String> {
    let folder = root().join("enforcer/dist/prometheus");
    let mut command = Command::new(tool("promtool")?);
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if !output.status.success() {
        bail!("promtool {}: {said}", arguments.join(" "));
    }
    Ok(said)
}

#[test]
fn what_is_counted_is_told_and_prometheus_finds_no_fault_with_it() -> Result<()> {
    let lab = Lab::new()?;
    let _servers = Servers::start(&lab.internet, &[443], &[])?;
    let _resolver = names::resolver(&lab)?;
    // While this is held, the kernel counts programs' time.
    let _stats = enable_stats(Stats::RunTime)?;
    let enforcer = start(&lab)?;
    let before = metrics(&lab)?;
    assert_eq!(probe::tcp(&lab.client, "17.1.2.3", 443)?, Answered);
    assert_eq!(probe::tcp(&lab.client, "198.51.100.2", 443)?, Silence);
    let now = metrics(&lab)?;

    let counted = enforcer.counters()?;
    let rule = r#"enforcer_packets_total{part="lan",rule="apple",service="web",action="allow"}"#;
    assert_eq!(value(&now, rule)? as u64, counted["apple/web"]);
    assert!(value(&now, rule)? > value(&before, rule)?);
    let denied = r#"enforcer_packets_total{part="pseudo",rule="default",service="any",action="drop"}"#;
    assert_eq!(value(&now, denied)? as u64, counted["default"]);
    let bytes = r#"enforcer_bytes_total{part="pseudo",rule="default",service="any",action="drop"}"#;
    assert!(value(&now, bytes)? >= 54.0 * value(&now, denied)?);
    for (interface, role) in [("lan0", "lan"), ("wan0", "wan")] {
        let of = format!(r#"{{interface="{interface}",role="{role}"}}"#);
        assert_eq!(value(&now, &format!("enforcer_interface_hooked{of}"))?, 1.0);
        let sent = format!("enforcer_interface_transmit_packets_total{of}");
        assert!(value(&now, &sent)? > value(&before, &sent)?, "{sent}");
    }
    assert_eq!(value(&now, r#"enforcer_hook_info{interface="lan0",role="lan",hook="native XDP"}"#)?, 1.0);
    assert!(value(&now, r#"enforcer_program_runs_total{program="lan_xdp"}"#)? > 0.0);
    assert!(value(&now, r#"enforcer_program_run_seconds_total{program="lan_xdp"}"#)? > 0.0);
    assert!(value(&now, r#"enforcer_table_capacity{table="addresses"}"#)? >= 49_152.0);
    assert!(value(&now, r#"enforcer_table_capacity{table="combinations"}"#)? > 0.0);
    assert!(value(&now, "enforcer_map_memory_bytes")? > 1e6);

    let said = promtool(&["check", "metrics"], &now)?;
    assert_eq!(said.trim(), "");
    let open = get(&lab, "/metrics", "accept: application/openmetrics-text; version=1.0.0\r\n")?;
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"));
    let mut stream = lab.gateway.enter(|| Ok(TcpStream::connect(LISTEN)?))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: page.example\r\nconnection: close\r\n\r\n")?;
    let refused = std::io::read_to_string(stream)?;
    assert!(refused.starts_with("HTTP/1.1 421") && refused.contains("--metrics-host"), "{refused}");
    let socket = lab.path("socket");
    let local =
        Command::new("curl").args(["-s", "--unix-socket"]).arg(socket).arg("http://enforcer/metrics").output()?;
    assert!(String::from_utf8(local.stdout)?.contains("# TYPE enforcer_packets_total counter"));

    // What rules and dashboard speak of is there.
    let dist = root().join("enforcer/dist");
    let rules = fs::read_to_string(dist.join("prometheus/enforcer.rules.yml"))?;
    let dashboard = fs::read_to_string(dist.join("grafana/enforcer.json"))?;
    let parsed: Value = serde_json::from_str(&dashboard)?;
    assert!(parsed["panels"].as_array().is_some_and(|panels| panels.len() > 10));
    let told: BTreeSet<&str> = now.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let mut spoken = 0;
    for text in [&rules, &dashboard] {
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        for word in words.filter(|word| word.starts_with("enforcer_")) {
            assert!(told.contains(word), "{word} is not told");
            spoken += 1;
        }
    }
    assert!(spoken > 30, "{spoken} metrics");

    // A hook that is missing is told as such.
    lab.gateway.run("ip link del lan0")?;
    let missing = r#"enforcer_interface_hooked{interface="lan0",role="lan"}"#;
    for _ in 0..100 {
        if value(&metrics(&lab)?, missing)? == 0.0 {
            return enforcer.stop();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    bail!("{missing} is not 0")
}

#[test]
fn status_over_tcp_quotes_no_line_of_a_policy() -> Result<()> {
    const SECRET: &str = "root:$6$secret:20000:0:99999:7:::";
    let lab = Lab::new()?;
    start(&lab)?.kill()?;
    let run = format!("--lan lan0 --wan wan0 --metrics-listen {LISTEN} --metrics-host enforcer");
    let status = |policy: &str| -> Result<String> {
        let enforcer = Enforcer::start(&lab, policy, &run)?;
        let status = get(&lab, "/v1/status", "")?;
        assert!(status.contains("the last confirmed policy is enforced instead"), "{status}");
        enforcer.kill()?;
        Ok(status)
    };
    fs::create_dir(lab.path("below"))?;
    lab.file("below/shadow", &format!("{SECRET}\n"))?;
    let include = |file: &str| format!("include = [\"{file}\"]\ndefault = \"drop\"\n");
    let own = status(&format!("default = \"drop\"\n{SECRET}\n"))?;
    let below = status(&include("below/shadow"))?;
    for (status, place) in [(&own, "policy.toml:2: "), (&below, "below/shadow:1: ")] {
        assert!(status.contains(place) && !status.contains("secret"), "{status}");
    }
    // A file elsewhere is not even read.
    std::os::unix::fs::symlink("/etc/passwd", lab.path("link.toml"))?;
    for file in ["/etc/passwd", "link.toml"] {
        let status = status(&include(file))?;
        assert!(status.contains("is outside the policy's folder") && !status.contains("root:x"), "{status}");
    }
    Ok(())
}

#[test]
fn alerts_fire_when_they_should_and_only_then() -> Result<()> {
    let checked = promtool(&["check", "rules", "enforcer.rules.yml"], "")?;
    assert!(checked.contains("10 rules found"), "{checked}");
    let tested = promtool(&["test", "rules", "enforcer.rules.test.yml"], "")?;
    assert!(tested.contains("SUCCESS"), "{tested}");
    Ok(())
}
