//! The product's DNS server in the lab's gateway, with hooks that take down what they are told.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;
use enforcer::dns::{
    Answer, Question,
    forwarder::{Config, Decision, Forwarder, Hooks, Limits, Service, counters::Snapshot, upstream::Server},
};
use tokio::runtime::Runtime;

use super::{
    Lab,
    dns::{self, A, PATIENCE},
    resolver::Resolver,
};

/// Where clients ask.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)), 53);

/// What the policy says, and what was learned.
#[derive(Default)]
pub struct Record {
    /// What becomes of questions for names; others are forwarded.
    pub decisions: HashMap<String, Decision>,
    /// How long the kernel takes.
    pub delay: Duration,
    /// Who was told what, and when that was done.
    pub learned: Mutex<Vec<(Instant, IpAddr, Answer)>>,
}

struct Recorder(Arc<Record>);

impl Hooks for Recorder {
    fn serves(&self, _: IpAddr, interface: Option<u32>) -> Service {
        if interface.is_some() { Service::Full } else { Service::None }
    }

    fn decide(&self, _: IpAddr, question: &Question) -> Decision {
        self.0.decisions.get(&question.name.to_string()).copied().unwrap_or(Decision::Forward)
    }

    async fn learned(&self, client: IpAddr, answer: &Answer) {
        if !self.0.delay.is_zero() {
            tokio::time::sleep(self.0.delay).await;
        }
        self.0.learned.lock().unwrap().push((Instant::now(), client, answer.clone()));
    }
}

/// A running forwarder on every address of the gateway; dropping it stops it.
pub struct Running {
    forwarder: Arc<Forwarder<Recorder>>,
    record: Arc<Record>,
    _runtime: Runtime,
}

impl Running {
    /// Starts one with defaults.
    pub fn start(lab: &Lab, upstreams: &[&Resolver]) -> Result<Self> {
        let upstreams = upstreams.iter().map(|upstream| upstream.address).collect();
        Self::configured(lab, upstreams, Limits::default(), Record::default())
    }

    /// Starts one.
    pub fn configured(lab: &Lab, upstreams: Vec<SocketAddr>, limits: Limits, record: Record) -> Result<Self> {
        let upstreams = upstreams.into_iter().map(Server::from).collect();
        Self::start_with(lab, Config { listen: Vec::new(), upstreams, ca: None, limits, rate: None }, record)
    }

    /// Starts one whose upstreams are as an operator writes them, known by a CA.
    pub fn encrypted(lab: &Lab, upstreams: &[String], ca: &Path, limits: Limits) -> Result<Self> {
        let upstreams = upstreams.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let config = Config { listen: Vec::new(), upstreams, ca: Some(ca.into()), limits, rate: None };
        Self::start_with(lab, config, Record::default())
    }

    fn start_with(lab: &Lab, mut config: Config, record: Record) -> Result<Self> {
        let record = Arc::new(record);
        let hooks = Recorder(Arc::clone(&record));
        config.listen = vec!["0.0.0.0:53".parse()?, "[::]:53".parse()?];
        // A runtime's threads are where the thread is that makes it.
        lab.gateway.enter(|| {
            let runtime = Runtime::new()?;
            let forwarder = runtime.block_on(async { Forwarder::bind(config, hooks) })?;
            let forwarder = Arc::new(forwarder);
            let served = Arc::clone(&forwarder);
            runtime.spawn(async move { served.run().await });
            Ok(Self { forwarder, record, _runtime: runtime })
        })
    }

    /// Its counters.
    pub fn counters(&self) -> Snapshot {
        self.forwarder.counters()
    }

    /// Why each upstream failed last, if it has not answered since.
    pub fn errors(&self) -> Vec<Option<String>> {
        self.forwarder.upstreams().conditions().into_iter().map(|condition| condition.error).collect()
    }

    /// What was learned so far, as text: name, address and seconds.
    pub fn learned(&self) -> Vec<String> {
        let learned = self.record.learned.lock().unwrap();
        let lines = learned.iter().flat_map(|(_, _, answer)| {
            let name = &answer.question.name;
            answer.addresses.iter().map(move |(address, ttl)| format!("{name} {address} {ttl}"))
        });
        lines.collect()
    }

    /// When the last was learned.
    pub fn last_learned(&self) -> Option<Instant> {
        self.record.learned.lock().unwrap().last().map(|(when, ..)| *when)
    }
}

/// Asks for the addresses of `n0`, `n1`, … in a zone before any answer is read; the ids of the answers, each of which is the name's number and has one
/// address.
pub fn ask_at_once(lab: &Lab, count: u16, zone: &str) -> Result<Vec<u16>> {
    lab.client.enter(|| {
        let socket = dns::bind("0.0.0.0:0".parse()?)?;
        socket.connect(SERVER)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        for number in 0..count {
            let mut query = dns::query(&format!("n{number}.{zone}"), A);
            query[..2].copy_from_slice(&number.to_be_bytes());
            socket.send(&query)?;
        }
        let mut ids = Vec::new();
        let mut buffer = [0; 512];
        while ids.len() < count.into() {
            socket.recv(&mut buffer)?;
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            let name = format!("n{id}");
            assert_eq!(&buffer[13..13 + name.len()], name.as_bytes());
            assert_eq!((dns::rcode(&buffer), buffer[7]), (0, 1), "{id}");
            ids.push(id);
        }
        Ok(ids)
    })
}
