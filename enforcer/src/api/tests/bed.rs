//! A served API in front of a controller that knows little, and clients of it.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    sync::{broadcast, oneshot},
    time,
};

use crate::{
    api::{
        policies::{Applied, Apply, History, Rollback},
        server::Server,
        source::Source,
        types::{
            self, AdmittedClient, Clients, Counters, NameAddress, Names, NamesStatus, PseudoCounter, Resolved,
            RuleCounter, Status, Table,
        },
    },
    clients::Client,
    dns::Name,
    names::{Counts, How},
    policy::Bundle,
};

pub struct Fake(broadcast::Sender<types::Event>);

fn admitted(client: &str, seconds: u32) -> AdmittedClient {
    AdmittedClient { client: client.into(), until: "2026-11-25T12:00:00Z".into(), seconds_left: seconds.into() }
}

impl Source for Fake {
    fn status(&self) -> Status {
        let upstream = |well| types::UpstreamStatus { address: "192.0.2.1:53".into(), well, failures: 3, error: None };
        let names = NamesStatus {
            counts: Counts { names: 2, ..Counts::default() },
            unplaced: 1,
            queries: Some(Default::default()),
            snooped: Some(Default::default()),
            upstreams: vec![upstream(false), upstream(true)],
        };
        Status {
            version: "1".into(),
            policy: "/etc/a \"policy\".toml".into(),
            policy_sha256: "0".repeat(64),
            pins: "/sys/fs/bpf/enforcer".into(),
            uptime_seconds: 5,
            hooks: vec![types::HookStatus { interface: "lan0".into(), role: "lan".into(), hook: "native XDP".into() }],
            services: 1,
            rules: 1,
            prefixes: 1,
            hosts: 1,
            map_bytes: 4096,
            schedules: vec!["lessons".into()],
            events_lost: 0,
            warnings: vec!["beware".into()],
            names: Some(names),
            interfaces: vec![types::InterfaceStatus {
                interface: "lan0".into(),
                role: "lan".into(),
                hooked: true,
                traffic: Some(Default::default()),
            }],
            admitted: Some(1),
            tables: vec![Table { table: "blocks".into(), entries: 1, capacity: 2 }],
            programs: vec![types::ProgramTime { program: "lan_xdp".into(), runs: 4, nanoseconds: 1_500_000_000 }],
            reloads: Default::default(),
            confirm_seconds: None,
            unhooked_seconds: 0.5,
        }
    }

    fn counters(&self) -> Counters {
        let rule = || RuleCounter {
            policy: "lan".into(),
            rule: "line-3".into(),
            service: None,
            action: "allow".into(),
            packets: 7,
            bytes: 700,
        };
        let default = PseudoCounter { name: "default".into(), action: "drop".into(), packets: 1, bytes: 60 };
        Counters { rules: vec![rule(), rule()], pseudo: vec![default] }
    }

    fn events(&self) -> (Vec<types::Event>, broadcast::Receiver<types::Event>) {
        (Vec::new(), self.0.subscribe())
    }

    fn events_lost(&self) -> u64 {
        0
    }

    /// More than a connection's buffers take.
    fn names(&self) -> Names {
        let name = |number: u32| NameAddress {
            name: format!("n{number}.example"),
            address: std::net::Ipv4Addr::from_bits(number).into(),
            matched: true,
            seconds_left: None,
            services: Vec::new(),
            how: How::Asked,
            used_seconds: Some(1),
        };
        Names { names: (0..5000).map(name).collect() }
    }

    fn resolve(&self, name: Name) -> BoxFuture<'_, Result<Resolved, String>> {
        Box::pin(async move {
            match name.to_string().as_str() {
                "defect.example" => panic!("a defect"),
                "slow.example" => time::sleep(Duration::from_secs(20)).await,
                _ => {}
            }
            Err("no resolver has an answer".into())
        })
    }

    fn policy(&self) -> Bundle {
        Bundle { path: "p.toml".into(), files: [("p.toml".into(), "default = \"drop\"\n".into())].into() }
    }

    fn history(&self) -> History {
        History { policies: Vec::new(), in_force: None, confirmed: None }
    }

    fn apply(self: Arc<Self>, apply: Apply) -> BoxFuture<'static, Result<Applied, String>> {
        Box::pin(async move {
            let sha256 = apply.policy.sha256();
            Ok(Applied {
                number: 1,
                sha256,
                confirm_seconds: apply.confirm_seconds.map(u64::from),
                warnings: Vec::new(),
            })
        })
    }

    fn confirm(self: Arc<Self>) -> BoxFuture<'static, Result<Applied, String>> {
        Box::pin(async move { Err("no policy waits to be confirmed".into()) })
    }

    fn roll_back(self: Arc<Self>, rollback: Rollback) -> BoxFuture<'static, Result<Applied, String>> {
        Box::pin(async move { Err(format!("no policy {:?}", rollback.to)) })
    }

    fn clients(&self) -> Clients {
        Clients { clients: vec![admitted("10.1.0.5", 60)], capacity: 2 }
    }

    fn admit(self: Arc<Self>, client: Client, seconds: u32) -> BoxFuture<'static, Result<AdmittedClient, String>> {
        Box::pin(async move { Ok(admitted(&client.to_string(), seconds)) })
    }

    fn expel(self: Arc<Self>, client: Client) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move { Err(format!("{client} is not admitted")) })
    }

    fn detach(&self) {}
}

/// A served API; dropping it ends it.
pub struct Api {
    _stop: oneshot::Sender<()>,
    pub folder: TempDir,
    tcp: SocketAddr,
}

impl Api {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let ((stop, stopped), (told, heard)) = (oneshot::channel::<()>(), mpsc::channel());
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let server = Server::bind(
                    &socket,
                    None,
                    &["127.0.0.1:0".parse().expect("an address")],
                    &["enforcer".parse().expect("a name")],
                )
                .expect("a socket and a port");
                told.send(server.metrics_address()).expect("who waits for it");
                tokio::select! {
                    () = server.serve(Arc::new(Fake(broadcast::channel(16).0))) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { _stop: stop, folder, tcp: heard.recv().expect("a server that listens") }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("a listening socket");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time that is not zero");
        stream
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).expect("a listening port");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time that is not zero");
        stream
    }

    /// The whole answer to a request over TCP.
    pub fn ask_remotely(&self, request: &str) -> Answer {
        let mut stream = self.tcp();
        stream.write_all(request.as_bytes()).expect("a server that reads");
        Answer::read(&mut stream)
    }

    /// The whole answer to a request.
    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("a server that reads");
        Answer::read(&mut stream)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&get(path))
    }

    /// That a client that does nothing wrong is served, and how soon.
    pub fn serves(&self) -> Duration {
        let start = Instant::now();
        assert_eq!(self.get("/v1/status").status, 200);
        start.elapsed()
    }
}

pub fn get(path: &str) -> String {
    get_from("enforcer", path)
}

pub fn get_from(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

pub fn post(path: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: enforcer\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(stream: &mut impl std::io::Read) -> Self {
        let mut bytes = Vec::new();
        let mut buffer = [0; 65_536];
        let start = Instant::now();
        // Where more was sent than was read, the answer comes all the same, and the connection is reset behind it.
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..length]);
            assert!(start.elapsed() < Duration::from_secs(20), "an answer without an end");
        }
        let text = String::from_utf8(bytes).expect("an answer that is text");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_lowercase(), body: body.into() }
    }

    /// Its detail, if it is a whole problem of a status.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{} {}", self.head, self.body);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem: Value = serde_json::from_str(&self.body).expect("a problem that is JSON");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(!problem["title"].as_str().expect("a title").is_empty());
        problem["detail"].as_str().expect("a detail").into()
    }
}
