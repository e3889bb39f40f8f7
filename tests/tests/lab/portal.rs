//! A captive portal with real clients: they see only the portal, are admitted, reach their services, and are cut off again.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use enforcer::kernel::object::Object;
use enforcer_tests::lab::{
    Lab, Namespace, Plan, awake,
    probe::{self, Outcome, Outcome::*},
    product::Enforcer,
    server::Servers,
};
use serde_json::Value;

const RUN: &str = "--lan lan0 --wan wan0";

/// The portal is one host of each family; the services of those who are admitted are others.
const POLICY: &str = r#"
default = "drop"
[portal]
services = ["login"]
[[service]]
name = "login"
to = ["203.0.113.9", "2620:149::5"]
ports = ["tcp/80"]
[[service]]
name = "work"
to = ["17.1.2.3", "2620:149::5"]
ports = ["tcp/443", "udp/443", "tcp/8443"]
[[rule]]
name = "work"
action = "allow"
services = ["work"]
"#;

/// The portal's addresses, and the services'.
const PORTAL: [&str; 2] = ["203.0.113.9", "2620:149::5"];
const WORK: [&str; 2] = ["17.1.2.3", "2620:149::5"];

/// A lab with servers, whose client hears what the gateway's NIC rejects.
fn lab() -> Result<(Lab, (Servers, Object))> {
    let lab = Lab::new()?;
    let servers = Servers::start(&lab.internet, &[80, 443], &[443])?;
    let awake = awake(&lab.client, "eth0")?;
    Ok((lab, (servers, awake)))
}

/// What a client sees of its services, by IPv4 and by IPv6.
fn work(client: &Namespace) -> Result<[Outcome; 2]> {
    let [v4, v6] = WORK.map(|address| probe::tcp(client, address, 443));
    Ok([v4?, v6?])
}

fn sees_the_portal(client: &Namespace) -> Result<()> {
    for address in PORTAL {
        assert_eq!(probe::tcp(client, address, 80)?, Answered, "{address}");
    }
    Ok(())
}

/// The link-layer address of an interface.
fn mac(namespace: &Namespace, interface: &str) -> Result<String> {
    Ok(namespace.output(&format!("cat /sys/class/net/{interface}/address"))?.trim().to_owned())
}

/// Clients that are admitted, as the controller lists them.
fn admitted(enforcer: &Enforcer) -> Result<Vec<String>> {
    let json: Value = serde_json::from_str(&enforcer.ask("clients --json")?)?;
    let clients = json["clients"].as_array().cloned().unwrap_or_default();
    Ok(clients.iter().filter_map(|client| client["client"].as_str().map(str::to_owned)).collect())
}

/// What is said of a command that fails.
fn refused(enforcer: &Enforcer, command: &str) -> Result<String> {
    let output = enforcer.command(command).output()?;
    assert!(!output.status.success(), "`{command}` is well");
    Ok(String::from_utf8(output.stderr)?)
}

/// A connection that stays open at both ends.
struct Standing {
    client: TcpStream,
    server: TcpStream,
}

impl Standing {
    fn open(lab: &Lab) -> Result<Self> {
        let listener = lab.internet.enter(|| Ok(TcpListener::bind(("0.0.0.0", 8443))?))?;
        let client = lab.client.enter(|| Ok(TcpStream::connect((WORK[0], 8443))?))?;
        let (server, _) = listener.accept()?;
        server.set_read_timeout(Some(Duration::from_millis(300)))?;
        Ok(Self { client, server })
    }

    /// Whether the server hears what the client says.
    fn is_heard(&mut self) -> bool {
        let said = self.client.write_all(b"x");
        said.is_ok() && self.server.read(&mut [0; 16]).is_ok_and(|read| read > 0)
    }
}

#[test]
fn a_client_sees_only_the_portal_until_it_is_admitted_and_again_when_it_is_expelled() -> Result<()> {
    let (lab, _servers) = lab()?;
    let client = &lab.client;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    sees_the_portal(client)?;
    // Whoever may not is told so at once.
    assert_eq!(work(client)?, [Refused; 2]);
    assert_eq!(probe::tcp(client, PORTAL[0], 443)?, Refused);
    let status = enforcer.ask("status")?;
    assert!(status.contains("admitted     0 clients"), "{status}");
    let denied = enforcer.counters()?["not-admitted"];
    assert!(denied >= 3, "{denied}");

    // By address: of one family alone.
    enforcer.ask("admit 10.1.0.2")?;
    assert_eq!(work(client)?, [Answered, Refused]);
    assert_eq!(probe::udp(client, WORK[0], 443, 100)?, Answered);
    sees_the_portal(client)?;
    // Admitted, it is one of those that the rules are about.
    assert_eq!(probe::tcp(client, WORK[0], 80)?, Silence);
    let explained = enforcer.ask("explain --from 10.1.0.2 17.1.2.3 tcp/443")?;
    assert!(explained.contains("allows service work"), "{explained}");
    let output = enforcer.command("explain --from 10.1.0.3 17.1.2.3 tcp/443").output()?;
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the client is not admitted"));
    enforcer.ask("expel 10.1.0.2")?;
    assert_eq!(work(client)?, [Refused; 2]);

    // By prefix.
    enforcer.ask("admit fd00:1::/64")?;
    assert_eq!(work(client)?, [Refused, Answered]);
    enforcer.ask("admit 10.1.0.0/24")?;
    assert_eq!(work(client)?, [Answered; 2]);
    let status = enforcer.ask("status")?;
    assert!(status.contains("admitted     2 clients"), "{status}");
    let told = refused(&enforcer, "expel 10.1.0.2")?;
    assert!(told.contains("10.1.0.2 is admitted as part of 10.1.0.0/24"), "{told}");
    enforcer.ask("admit 10.1.0.2")?;
    let told = refused(&enforcer, "expel 10.1.0.2")?;
    assert!(told.contains("10.1.0.2 would still be admitted as part of 10.1.0.0/24"), "{told}");
    assert_eq!(admitted(&enforcer)?, ["10.1.0.0/24", "10.1.0.2", "fd00:1::/64"]);
    for client in ["10.1.0.0/24", "10.1.0.2", "fd00:1::/64"] {
        enforcer.ask(&format!("expel {client}"))?;
    }
    assert_eq!(work(client)?, [Refused; 2]);

    // By its station: both families, whatever its addresses.
    let station = mac(client, "eth0")?;
    enforcer.ask(&format!("admit {} --for 1h", station.to_uppercase().replace(':', "-")))?;
    assert_eq!(work(client)?, [Answered; 2]);
    assert_eq!(admitted(&enforcer)?, std::slice::from_ref(&station));
    client.run("ip addr add 10.1.0.77/24 dev eth0")?;
    assert_eq!(probe::tcp_from(client, "10.1.0.77", WORK[0], 443)?, Answered);
    enforcer.ask(&format!("expel {station}"))?;
    assert_eq!(work(client)?, [Refused; 2]);
    enforcer.stop()
}

#[test]
fn an_admission_ends_on_time_whether_or_not_a_controller_runs() -> Result<()> {
    let (lab, _servers) = lab()?;
    let client = &lab.client;
    let mut enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    let admit = |enforcer: &Enforcer, seconds: u64| -> Result<Instant> {
        enforcer.ask(&format!("admit {} --for {seconds}s", mac(client, "eth0")?))?;
        enforcer.ask(&format!("admit 10.1.0.0/25 --for {seconds}s"))?;
        Ok(Instant::now() + Duration::from_secs(seconds))
    };
    // A connection is cut as well: no packet of it passes any more.
    let end = admit(&enforcer, 4)?;
    assert_eq!(work(client)?, [Answered; 2]);
    let mut standing = Standing::open(&lab)?;
    assert!(standing.is_heard() && standing.is_heard());
    thread::sleep((end + Duration::from_millis(50)).saturating_duration_since(Instant::now()));
    assert!(!standing.is_heard());
    assert_eq!(work(client)?, [Refused; 2]);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(admitted(&enforcer)?, [""; 0]);

    // While the controller does nothing, and while there is none.
    for crash in [false, true] {
        let end = admit(&enforcer, 4)?;
        if crash {
            enforcer.crash()?;
        } else {
            enforcer.halt();
        }
        assert_eq!(work(client)?, [Answered; 2], "{crash}");
        thread::sleep((end + Duration::from_millis(50)).saturating_duration_since(Instant::now()));
        assert_eq!(work(client)?, [Refused; 2], "{crash}");
        sees_the_portal(client)?;
        if !crash {
            enforcer.wake();
        }
    }
    // What has ended is not admitted by the next one either.
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    assert_eq!(admitted(&enforcer)?, [""; 0]);
    assert_eq!(work(client)?, [Refused; 2]);
    enforcer.stop()
}

#[test]
fn admissions_outlive_policies_controllers_and_the_kernels_tables() -> Result<()> {
    let (lab, _servers) = lab()?;
    let client = &lab.client;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    let station = mac(client, "eth0")?;
    enforcer.ask(&format!("admit {station}"))?;
    enforcer.ask("admit 10.1.9.0/24")?;
    let all = vec!["10.1.9.0/24".to_owned(), station];
    let stays = |enforcer: &Enforcer, what: &str| -> Result<()> {
        assert_eq!(work(client)?, [Answered; 2], "{what}");
        assert_eq!(admitted(enforcer)?, all, "{what}");
        Ok(())
    };
    // Another policy, one without a portal, and the first again.
    let other = lab.file("other.toml", &POLICY.replace("action = \"allow\"", "action = \"allow\"\nlog = true"))?;
    enforcer.ask(&format!("apply {}", other.display()))?;
    stays(&enforcer, "another policy")?;
    let open = lab.file("open.toml", &POLICY.replace("[portal]\nservices = [\"login\"]\n", ""))?;
    enforcer.ask(&format!("apply {}", open.display()))?;
    let told = refused(&enforcer, "admit 10.1.0.2")?;
    assert!(told.contains("the policy in force has no portal: write [portal]"), "{told}");
    assert!(!enforcer.ask("status")?.contains("by the portal"));
    assert_eq!(probe::tcp(client, PORTAL[0], 80)?, Silence);
    enforcer.ask(&format!("apply {}", lab.path("policy.toml").display()))?;
    stays(&enforcer, "the first again")?;
    // Ordered ends and crashes, in which the kernel goes on.
    enforcer.stop()?;
    assert_eq!(work(client)?, [Answered; 2]);
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    stays(&enforcer, "a restart")?;
    enforcer.kill()?;
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    stays(&enforcer, "a crash")?;
    // As behind a reboot: nothing is left in the kernel.
    enforcer.ask("detach")?;
    drop(enforcer);
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    stays(&enforcer, "new tables")?;
    enforcer.stop()?;
    // What is damaged is told, and what the kernel has goes on.
    lab.file("state/clients.json", "{")?;
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    stays(&enforcer, "a damaged file")?;
    assert!(enforcer.log()?.contains("clients.json is damaged"), "{}", enforcer.log()?);
    assert_eq!(std::fs::read_to_string(lab.path("state/clients.json.bad"))?, "{");
    // It is well again, also where nothing is left in the kernel.
    enforcer.ask("detach")?;
    drop(enforcer);
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    stays(&enforcer, "new tables and a new file")?;
    enforcer.stop()?;
    // What cannot be read is told, too.
    std::fs::remove_file(lab.path("state/clients.json.bad"))?;
    std::fs::rename(lab.path("state/clients.json"), lab.path("clients.json"))?;
    std::fs::create_dir(lab.path("state/clients.json"))?;
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    stays(&enforcer, "a file that cannot be read")?;
    assert!(enforcer.log()?.contains("clients.json cannot be read"), "{}", enforcer.log()?);
    enforcer.stop()?;
    // After a reboot, an admission has ended if the wall's clock says so, and lasts for no longer than was left.
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(lab.path("state/clients.json"))?)?;
    let mut rebooted = kept;
    rebooted["boot"] = "another".into();
    rebooted["clients"][0]["until"] = "2026-01-01T00:00:00Z".into();
    rebooted["clients"][1]["until"] = "2226-01-01T00:00:00Z".into();
    lab.file("state/clients.json", &rebooted.to_string())?;
    let enforcer = Enforcer::start_again(&lab, RUN)?;
    assert_eq!(admitted(&enforcer)?, all[1..]);
    let left: Value = serde_json::from_str(&enforcer.ask("clients --json")?)?;
    assert!(left["clients"][0]["seconds_left"].as_u64().is_some_and(|left| left <= 28_800), "{left}");
    enforcer.stop()
}

#[test]
fn clients_of_no_portal_and_those_that_are_exempt_are_not_affected() -> Result<()> {
    let (lab, _servers) = lab()?;
    let client = &lab.client;
    let from = POLICY.replace("[portal]\n", "[portal]\nfrom = [\"10.1.0.0/24\", \"fd00:1::3\"]\naction = \"drop\"\n");
    let enforcer = Enforcer::start(&lab, &from, RUN)?;
    // Of this client, one address is in it, the other is not; to be dropped is to hear nothing.
    assert_eq!(work(client)?, [Silence, Answered]);
    let told = refused(&enforcer, "admit fd00:1::2")?;
    assert!(told.contains("fd00:1::2 needs no admission"), "{told}");
    let exempt = lab.file("exempt.toml", &format!("{from}[exempt]\nfrom = [\"10.1.0.2\"]\n"))?;
    enforcer.ask(&format!("apply {}", exempt.display()))?;
    assert_eq!(work(client)?, [Answered; 2]);
    // A proxy fetches for others; its address is a client's otherwise.
    client.run("ip addr add 10.1.0.77/24 dev eth0")?;
    enforcer.ask(&format!("apply {}", lab.path("policy.toml").display()))?;
    assert_eq!(probe::tcp_from(client, "10.1.0.77", WORK[0], 443)?, Silence);
    let proxied = "[[proxy]]\naddress = \"10.1.0.77\"\nport = 3128\nservices = [\"login\"]\n";
    let proxied = lab.file("proxied.toml", &format!("{from}{proxied}"))?;
    enforcer.ask(&format!("apply {}", proxied.display()))?;
    assert_eq!(probe::tcp_from(client, "10.1.0.77", WORK[0], 443)?, Answered);
    assert_eq!(work(client)?, [Silence, Answered]);
    let told = refused(&enforcer, "admit 10.1.0.77")?;
    assert!(told.contains("it is no client of the portal (it is a proxy)"), "{told}");
    // One that only watches denies nothing.
    let watching = lab.file("watching.toml", &format!("monitor = true\n{from}"))?;
    enforcer.ask(&format!("apply {}", watching.display()))?;
    assert_eq!(work(client)?, [Answered; 2]);
    assert!(enforcer.counters()?["not-admitted"] > 0);
    enforcer.stop()
}

#[test]
fn a_bridges_clients_are_told_apart_by_their_stations_at_tc() -> Result<()> {
    let lab = Lab::planned(Plan { bridged: true, ..Plan::default() })?;
    let _servers = Servers::start(&lab.internet, &[80, 443], &[])?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan br-lan --wan wan0")?;
    enforcer.ask(&format!("admit {}", mac(&lab.client, "eth0")?))?;
    assert_eq!(work(&lab.client)?, [Answered; 2]);
    assert_eq!(work(&lab.neighbour)?, [Refused; 2]);
    sees_the_portal(&lab.neighbour)?;
    enforcer.ask(&format!("admit {}", mac(&lab.neighbour, "eth0")?))?;
    assert_eq!(work(&lab.neighbour)?, [Answered; 2]);
    enforcer.stop()
}

#[test]
fn a_wider_admission_extends_a_narrower_one() -> Result<()> {
    let (lab, _servers) = lab()?;
    let enforcer = Enforcer::start(&lab, POLICY, RUN)?;
    enforcer.ask("admit 10.1.0.0/25 --for 2s")?;
    enforcer.ask("admit 10.1.0.0/24 --for 1h")?;
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(work(&lab.client)?, [Answered, Refused], "the narrower one has ended");
    // The other way round, the narrower one gets its own end again.
    enforcer.ask("admit 10.1.0.0/25 --for 2s")?;
    enforcer.ask("expel 10.1.0.0/24")?;
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(work(&lab.client)?, [Refused; 2], "the wider one was revoked");
    enforcer.stop()
}

#[test]
fn bad_requests_are_refused_and_change_nothing() -> Result<()> {
    let (lab, _servers) = lab()?;
    let enforcer = Enforcer::start(&lab, POLICY, &format!("{RUN} --metrics-listen 127.0.0.1:9100"))?;
    for (command, message) in [
        ("admit tablet.example.org", "is a name"),
        ("admit 10.1.0.2/24", "has bits set beyond its length"),
        ("admit 02:00:5e:10:00", "write an address such as"),
        ("admit ff:ff:ff:ff:ff:ff", "is no station's address"),
        ("admit 224.0.0.1", "is no client's address"),
        ("expel 10.1.0.2", "10.1.0.2 is not admitted: `enforcer clients`"),
        ("admit 10.1.0.2 --for 0s", "1 s to 365 days"),
        ("admit 10.1.0.2 --for 400d", "1 s to 365 days"),
    ] {
        let told = refused(&enforcer, command)?;
        assert!(told.contains(message), "{command}: {told}");
    }
    let post = |path: &str, body: &str| -> Result<(String, String)> {
        let socket = lab.path("socket");
        let file = lab.file("body", body)?;
        let line = format!(
            "curl -sS --unix-socket {} -o {} -w %{{http_code}}/%{{content_type}} -H content-type:application/json --data-binary @{} http://enforcer{path}",
            socket.display(),
            lab.path("answer").display(),
            file.display()
        );
        let head = lab.gateway.output(&line)?;
        Ok((head, std::fs::read_to_string(lab.path("answer"))?))
    };
    for (body, status, message) in [
        ("{\"client\": \"10.1.0.2\", \"seconds\": 0}", "400/application/problem+json", "0 seconds are no time"),
        ("{\"client\": \"10.1.0.2\", \"seconds\": 31536001}", "400/application/problem+json", "are no time"),
        ("{\"client\": \"10.1.0.2\", \"seconds\": -1}", "422/application/problem+json", "seconds"),
        ("{\"client\": \"10.1.0.2\", \"second\": 1}", "422/application/problem+json", "unknown field"),
        ("{\"client\": \"\\u0000\"}", "409/application/problem+json", "is not an address prefix"),
        ("{", "400/application/problem+json", ""),
    ] {
        let (head, answer) = post("/v1/admit", body)?;
        assert_eq!(head, status, "{body}: {answer}");
        assert!(answer.contains(message), "{body}: {answer}");
    }
    assert_eq!(admitted(&enforcer)?, [""; 0]);
    assert_eq!(work(&lab.client)?, [Refused; 2]);
    // Without a time, it is eight hours.
    let (head, answer) = post("/v1/admit", "{\"client\": \"10.1.0.2\"}")?;
    assert!(head.starts_with("200/") && answer.contains("\"seconds_left\":28800}"), "{head} {answer}");
    // Over TCP, nobody is told who clients are, nor admits any; how many there are is no secret.
    let over_tcp = |path: &str| lab.gateway.output(&format!("curl -sS -w /%{{http_code}} http://127.0.0.1:9100{path}"));
    assert!(over_tcp("/v1/clients")?.ends_with("/404"));
    let metrics = over_tcp("/metrics")?;
    assert!(metrics.contains("enforcer_table_entries{table=\"admitted\"} 1\n"), "{metrics}");
    assert!(metrics.contains("enforcer_table_capacity{table=\"admitted\"} 65536\n"), "{metrics}");
    enforcer.stop()
}
