//! The API of the running product: who may use it, and what becomes of requests that are late, broken or made to break it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use enforcer_tests::lab::{Lab, POLICY, enforcer_binary, names, product::Enforcer, resolver::Resolver, rounds, tool};
use serde_json::Value;

/// What an unprivileged user gets from the socket, as HTTP status; nothing if it cannot be opened.
fn asked_as(user: u32, group: u32, socket: &Path) -> Result<Option<String>> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]).arg(socket);
    let output = curl.arg("http://enforcer/v1/status").uid(user).gid(group).output()?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn the_socket_is_for_root_and_its_group_alone() -> Result<()> {
    let lab = Lab::new()?;
    let socket = lab.path("socket");
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    assert_eq!(asked_as(65_534, 65_534, &socket)?, None);
    assert_eq!(asked_as(65_534, 54_321, &socket)?, None);
    assert_eq!(asked_as(0, 0, &socket)?.as_deref(), Some("200"));
    enforcer.stop()?;
    // A name that every Debian has, and a number that nothing has.
    for (group, number) in [("daemon", 1), ("54321", 54_321)] {
        let enforcer = Enforcer::start(&lab, POLICY, &format!("--lan lan0 --wan wan0 --socket-group {group}"))?;
        let file = fs::metadata(&socket)?;
        assert_eq!((file.permissions().mode() & 0o7777, file.uid(), file.gid()), (0o660, 0, number));
        assert_eq!(asked_as(65_534, number, &socket)?.as_deref(), Some("200"));
        assert_eq!(asked_as(65_534, 65_534, &socket)?, None);
        enforcer.stop()?;
    }
    let refused = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0 --socket-group no-such-group").err();
    let refused = refused.context("there is no such group")?.to_string();
    assert!(refused.contains("groupadd --system no-such-group"), "{refused}");
    Ok(())
}

#[test]
fn the_document_is_the_same_whoever_prints_it() -> Result<()> {
    let lab = Lab::new()?;
    let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0")?;
    let printed = Command::new(enforcer_binary()?).arg("openapi").output()?;
    let served = Command::new("curl")
        .args(["-s", "--unix-socket"])
        .arg(lab.path("socket"))
        .arg("http://enforcer/v1/openapi.json")
        .output()?;
    let [printed, served]: [Value; 2] =
        [serde_json::from_slice(&printed.stdout)?, serde_json::from_slice(&served.stdout)?];
    assert_eq!(printed, served);
    assert!(
        printed["paths"]["/v1/events/stream"]["get"]["responses"]["200"]["content"]["text/event-stream"].is_object()
    );
    enforcer.stop()
}

/// Carries connections from a port of this machine's to a socket, for programs that know no Unix sockets. Its thread ends with the test.
fn bridge(socket: PathBuf) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(inner) = UnixStream::connect(&socket) else { return };
            let (Ok(outer_too), Ok(inner_too)) = (stream.try_clone(), inner.try_clone()) else { return };
            // How a connection ends is its ends' affair.
            thread::spawn(move || {
                let _ = std::io::copy(&mut &stream, &mut &inner);
                let _ = inner.shutdown(std::net::Shutdown::Write);
            });
            thread::spawn(move || {
                let _ = std::io::copy(&mut &inner_too, &mut &outer_too);
                let _ = outer_too.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    Ok(format!("http://{address}"))
}

/// Streams have no end, which the fuzzer would wait for, and detaching ends what it asks; they are tested elsewhere.
const FUZZ: &str = "--exclude-path-regex /(stream|detach)$ --checks all --seed 1 --no-color --request-timeout 20 --generation-database none";

#[test]
fn schemathesis_finds_no_fault_with_the_api() -> Result<()> {
    let lab = Lab::new()?;
    // Every name has an address: no answer is the resolver's fault.
    let _resolver = Resolver::dnsmasq_with(&lab, "17.1.2.3", "address=/#/203.0.113.9\n")?;
    let enforcer = names::start(&lab, POLICY)?;
    let url = bridge(lab.path("socket"))?;
    let output = Command::new(tool("schemathesis/bin/schemathesis")?)
        .args(["run", &format!("{url}/v1/openapi.json")])
        .args(FUZZ.split(' '))
        .args(["--max-examples", &rounds(100).to_string()])
        .current_dir(lab.path(""))
        .output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("14 selected / 17 total"), "{said}");
    enforcer.ask("status")?;
    enforcer.stop()
}

/// Tests that measure time. No other test runs beside them.
mod serial {
    use super::*;

    #[test]
    fn six_hundred_half_sent_requests_do_not_keep_the_cli_waiting() -> Result<()> {
        let lab = Lab::new()?;
        let enforcer = Enforcer::start(&lab, POLICY, "--lan lan0 --wan wan0 --metrics-listen 127.0.0.1:9100")?;
        let local = (0..600).map(|_| {
            let mut stream = UnixStream::connect(lab.path("socket"))?;
            // It may be cut off already.
            let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: enf");
            Ok(stream)
        });
        let local: Vec<UnixStream> = local.collect::<Result<_>>()?;
        let start = Instant::now();
        assert!(enforcer.ask("status")?.contains("native XDP"));
        let took = start.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        // One address over TCP has its share, and its earlier connections make room for later ones.
        let remote = || -> Result<TcpStream> { lab.gateway.enter(|| Ok(TcpStream::connect("127.0.0.1:9100")?)) };
        let late: Vec<TcpStream> = (0..100).map(|_| remote()).collect::<Result<_>>()?;
        thread::sleep(Duration::from_millis(200));
        let mut stream = remote()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:9100\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop((local, late));
        enforcer.stop()
    }
}
