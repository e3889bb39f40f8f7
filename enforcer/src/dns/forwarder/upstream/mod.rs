//! Asking the resolvers behind.

mod fault;
mod https;
mod kept;
mod line;
mod plain;
mod server;
mod tls;
mod trust;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OnceCell, Semaphore},
    time,
};

use super::{
    counters::{Counters, Snapshot},
    flights::Flights,
    health::Health,
    query::{Essence, Query},
    reply,
};
use crate::dns::Question;
use fault::Fault;
use line::Line;
pub use server::{Mistake, Server, Way};
use trust::Trust;

/// The largest message.
const MAX_MESSAGE: usize = 65_535;

/// How many datagrams for one question may be under way that differ in the rest, such as in EDNS options. Each opens a port and an id, of which who forges
/// answers need guess only one (the birthday attack of RFC 5452 and VU#457875), and one client can send any number of them.
const FORMS: usize = 4;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One in a datagram.
    Udp,
    /// Many on a connection.
    Tcp,
}

/// The answer to all equal queries, when there is one or none is to come.
type Outcome = OnceCell<Option<Vec<u8>>>;

/// Resolvers, of which any can answer. Should one of them be there to refuse what does not pass DNSSEC, all must: what one cannot answer, the next is asked.
pub struct Upstreams {
    lines: Vec<Line>,
    /// Why each failed last, if it has not answered since.
    faults: Vec<Mutex<Option<Fault>>>,
    /// One that takes no TCP may still be well by UDP.
    health: [Mutex<Health>; 2],
    flights: Flights<(Transport, Essence), Outcome>,
    forms: Flights<Question, Semaphore>,
    patience: Duration,
    pub(super) counters: Arc<Counters>,
}

/// How an upstream is.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The upstream.
    pub server: Server,
    /// Whether it is asked, by UDP, before those that do not answer.
    pub well: bool,
    /// Why it failed last, if it has not answered since.
    pub error: Option<String>,
}

impl Upstreams {
    /// Resolvers in the order of preference, a file of CAs instead of the system's for those that are encrypted, and how long each may take to answer.
    ///
    /// # Errors
    /// If there are no CAs and one is encrypted, or a name and a path make no URL.
    pub fn new(servers: Vec<Server>, ca: Option<&Path>, patience: Duration) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
        let counters = Arc::new(Counters::new(&addresses));
        let trust = if servers.iter().any(Server::is_encrypted) { Trust::load(ca)? } else { Trust::none() };
        let health = [(); 2].map(|()| Mutex::new(Health::new(servers.len(), patience)));
        let lines = servers.into_iter().map(|server| Line::new(server, &trust, Arc::clone(&counters)));
        let lines: Vec<Line> = lines.collect::<io::Result<_>>()?;
        let faults = lines.iter().map(|_| Mutex::default()).collect();
        let (flights, forms) = (Flights::default(), Flights::default());
        Ok(Self { lines, faults, health, flights, forms, patience, counters })
    }

    /// How each is.
    pub fn conditions(&self) -> Vec<Condition> {
        let health = self.health(Transport::Udp);
        let each = self.lines.iter().zip(&self.faults).enumerate();
        let condition = |(which, (line, fault)): (usize, (&Line, &Mutex<Option<Fault>>))| Condition {
            server: line.server.clone(),
            well: health.is_well(which, Instant::now()),
            error: lock(fault).as_ref().map(ToString::to_string),
        };
        each.map(condition).collect()
    }

    /// What came of asking them, and of what else counts there.
    pub fn counters(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// When any of them last said how things are.
    pub fn heard(&self) -> Option<Instant> {
        [Transport::Udp, Transport::Tcp].into_iter().filter_map(|transport| self.health(transport).heard()).max()
    }

    /// The first answer that one of them gives, under an id and in a case of its own; if none can answer, what the first says of that; none if all fail.
    /// Equal queries at the same time are one to the upstreams.
    pub async fn ask(&self, query: &Query, transport: Transport) -> Option<Vec<u8>> {
        let flight = self.flights.join((transport, query.essence()), Outcome::default);
        if flight.joined {
            self.counters.joined.add();
        }
        // If who asks for all goes away, the next does it.
        let asking = flight.shared.get_or_init(async || {
            let answer = match transport {
                Transport::Udp => self.by_datagram(query).await,
                Transport::Tcp => self.ask_each(query, transport).await,
            };
            // An answer is for those who waited for it; this is no cache.
            flight.close();
            answer
        });
        asking.await.clone()
    }

    /// Asks by datagram, unless so many others do for the same question that one more would help who forges answers: then by TCP, where nobody can
    /// who does not see the connection.
    async fn by_datagram(&self, query: &Query) -> Option<Vec<u8>> {
        let forms = self.forms.join(query.question.clone(), || Semaphore::new(FORMS));
        let Ok(_turn) = forms.shared.try_acquire() else {
            self.counters.crowded.add();
            let answer = self.ask_each(query, Transport::Tcp).await?;
            return Some(reply::fit(query, answer));
        };
        self.ask_each(query, Transport::Udp).await
    }

    async fn ask_each(&self, query: &Query, transport: Transport) -> Option<Vec<u8>> {
        let order = self.health(transport).order(Instant::now());
        let mut at_a_loss = Vec::new();
        let mut kept = None;
        for which in order {
            let asked = Instant::now();
            let answer = self.lines[which].ask(query, transport);
            let fault = match time::timeout(self.patience, answer).await {
                Ok(Ok(answer)) if !is_final(&answer) => {
                    self.counters.at_a_loss.add();
                    at_a_loss.push((which, asked));
                    kept.get_or_insert(answer);
                    continue;
                }
                Ok(Ok(answer)) => {
                    *lock(&self.faults[which]) = None;
                    self.tell(which, transport, |health| health.answered(which, Instant::now()));
                    // That others could not was their fault, not the name's.
                    for (which, asked) in at_a_loss {
                        let lost =
                            |health: &mut Health| health.at_a_loss(which, &query.question, asked, Instant::now());
                        self.tell(which, transport, lost);
                    }
                    return Some(answer);
                }
                // Refused, unreachable or closed: there is nothing to wait for.
                Ok(Err(fault)) => fault,
                Err(_) => {
                    self.counters.timeouts.add();
                    self.lines[which].silent_since(query, transport, asked);
                    Fault::new(format!("no answer in {:?}", self.patience))
                }
            };
            *lock(&self.faults[which]) = Some(fault);
            self.counters.upstream_failures[which].1.add();
            self.tell(which, transport, |health| health.failed(which, asked, Instant::now()));
        }
        kept
    }

    /// What happened with an upstream. One that is encrypted is the same for those who ask by UDP and TCP.
    fn tell(&self, which: usize, transport: Transport, event: impl Fn(&mut Health)) {
        let own = slice::from_ref(&self.health[transport as usize]);
        let concerned = if self.lines[which].server.is_encrypted() { &self.health } else { own };
        concerned.iter().for_each(|health| event(&mut lock(health)));
    }

    fn health(&self, transport: Transport) -> MutexGuard<'_, Health> {
        lock(&self.health[transport as usize])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an answer says how things are (NOERROR, NXDOMAIN, YXDOMAIN), and not that the upstream cannot say.
fn is_final(answer: &[u8]) -> bool {
    matches!(answer[3] & 15, 0 | 3 | 6)
}

#[cfg(test)]
mod tests;
