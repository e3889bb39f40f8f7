//! A steady stream of packets, each of which is known to pass or not to: every wrong verdict on the way shows at its end.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};

use super::{Lab, product::Enforcer};

/// Packets of a flow that are sent at a time, and how often: three thousand a second.
const BATCH: u64 = 6;
const INTERVAL: Duration = Duration::from_millis(2);
/// Packets that are to pass and may be under way: a machine without time to move them has queues of a few hundred, and drops what is beyond.
const UNDER_WAY: u64 = 96;
/// What is under way for longer was dropped.
const PATIENCE: Duration = Duration::from_millis(20);
/// What is on its way by then has come.
const SETTLED: Duration = Duration::from_millis(300);

/// Packets from the lab's client to the internet.
pub struct Flood {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<Vec<u64>>>,
    receivers: Vec<JoinHandle<HashSet<u64>>>,
    flows: Vec<(SocketAddr, bool)>,
    began: Instant,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that were to pass and did not.
    pub lost: u64,
    /// Packets that passed and were not to.
    pub leaked: u64,
}

/// Allowed and denied under the lab's policy, of both families.
pub const FLOWS: [(&str, u16, bool); 4] = [
    ("17.253.4.5", 123, true),
    ("2403:300::7", 123, true),
    ("203.0.113.9", 123, false),
    ("2001:db8:bad::1", 123, false),
];

impl Tally {
    /// Panics if a verdict was wrong, or if there were too few packets to tell.
    pub fn assert_right(self) {
        println!("{self:?}");
        assert!(self.sent > 1000, "{self:?}");
        assert_eq!((self.lost, self.leaked), (0, 0), "{self:?}");
    }
}

impl Flood {
    /// Begins: datagrams to destinations, of which is said whether they are to pass.
    pub fn start(lab: &Lab, flows: &[(&str, u16, bool)]) -> Result<Self> {
        let flows: Vec<(SocketAddr, bool)> = flows
            .iter()
            .map(|&(address, port, passes)| Ok((SocketAddr::new(address.parse::<IpAddr>()?, port), passes)))
            .collect::<Result<_>>()?;
        let (stop, passed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut receivers = Vec::new();
        for &(address, passes) in &flows {
            let socket = lab.internet.enter(|| {
                let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
                // Nothing is to be lost but by verdicts.
                socket.set_recv_buffer_size(8 << 20)?;
                socket.bind(&address.into())?;
                socket.set_read_timeout(Some(Duration::from_millis(50)))?;
                Ok(UdpSocket::from(socket))
            })?;
            let stop = Arc::clone(&stop);
            let passed = passes.then(|| Arc::clone(&passed));
            receivers.push(thread::spawn(move || receive(&socket, passed.as_deref(), &stop)));
        }
        let sockets: Vec<UdpSocket> = lab.client.enter(|| {
            let any = |address: &SocketAddr| if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            flows.iter().map(|(address, _)| Ok(UdpSocket::bind(any(address))?)).collect()
        })?;
        let (targets, sending) = (flows.clone(), Arc::clone(&stop));
        let sender = thread::spawn(move || send(&sockets, &targets, &passed, &sending));
        Ok(Self { stop, sender, receivers, flows, began: Instant::now() })
    }

    /// Ends one of [`FLOWS`]. Panics if a verdict was wrong, or a packet was counted twice, or not at all.
    pub fn all_counted(self, enforcer: &Enforcer) -> Result<()> {
        let began = self.began;
        let tally = self.stop()?;
        let took = began.elapsed();
        println!("{took:?}, {:.0} packets a second", tally.sent as f64 / took.as_secs_f64());
        tally.assert_right();
        // Until the set before has given its last counts.
        thread::sleep(Duration::from_millis(1500));
        let counters = enforcer.counters()?;
        assert_eq!(counters["apple/time"] + counters["default"], tally.sent);
        Ok(())
    }

    /// Ends it, and counts.
    pub fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().ok().context("the sender panicked")??;
        let mut tally = Tally::default();
        for ((receiver, sent), (address, passes)) in self.receivers.into_iter().zip(sent).zip(self.flows) {
            let received = receiver.join().ok().context("a receiver panicked")?.len() as u64;
            ensure!(sent > 0, "nothing was sent to {address}");
            tally.sent += sent;
            if passes {
                tally.lost += sent - received;
            } else {
                tally.leaked += received;
            }
        }
        Ok(tally)
    }
}

fn send(
    sockets: &[UdpSocket],
    flows: &[(SocketAddr, bool)],
    passed: &AtomicU64,
    stop: &AtomicBool,
) -> Result<Vec<u64>> {
    let mut sent = vec![0_u64; flows.len()];
    let mut dropped = 0;
    while !stop.load(Ordering::Relaxed) {
        for ((socket, (target, _)), sent) in sockets.iter().zip(flows).zip(&mut sent) {
            for _ in 0..BATCH {
                socket.send_to(&sent.to_be_bytes(), target)?;
                *sent += 1;
            }
        }
        let to_pass: u64 = sent.iter().zip(flows).filter(|(_, (_, passes))| *passes).map(|(sent, _)| sent).sum();
        // What comes after all was not dropped.
        dropped = dropped.min(to_pass.saturating_sub(passed.load(Ordering::Relaxed)));
        let under_way = || to_pass.saturating_sub(passed.load(Ordering::Relaxed) + dropped);
        let since = Instant::now();
        while under_way() > UNDER_WAY && since.elapsed() < PATIENCE {
            thread::sleep(INTERVAL);
        }
        if under_way() > UNDER_WAY {
            dropped += under_way();
        }
        thread::sleep(INTERVAL);
    }
    Ok(sent)
}

/// Numbers that came, until the sender has ended and what it sent is here; told as they come, if they are to.
fn receive(socket: &UdpSocket, passed: Option<&AtomicU64>, stop: &AtomicBool) -> HashSet<u64> {
    let mut received = HashSet::new();
    let mut buffer = [0; 8];
    let mut stopped: Option<Instant> = None;
    while stopped.is_none_or(|since| since.elapsed() < SETTLED) {
        if let Ok(8) = socket.recv(&mut buffer)
            && received.insert(u64::from_be_bytes(buffer))
            && let Some(passed) = passed
        {
            passed.fetch_add(1, Ordering::Relaxed);
        }
        if stop.load(Ordering::Relaxed) {
            stopped.get_or_insert_with(Instant::now);
        }
    }
    received
}
