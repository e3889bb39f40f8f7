//! The LAN's DNS server. It passes queries on to resolvers and their answers back, byte for byte; but what a policy blocks it answers itself, and what an
//! answer tells is learned before the client has it, so that no packet to a new address can come too early.

pub mod counters;
mod flights;
mod health;
mod places;
pub mod query;
pub mod rate;
mod reply;
mod stream;
mod tcp;
mod udp;
pub mod upstream;

use std::{
    convert::identity,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
    time,
};

pub use crate::policy::Decision;

use super::{Answer, Question};
use crate::net::neighbours::Neighbours;
use counters::{Counters, Snapshot};
use places::{Device, Place, Places, Station};
use query::{Fault, HEADER, Query};
use rate::{ClientRates, Rate, Rates, network};
use stream::Bounded;
use upstream::{Server, Transport, Upstreams};

/// The largest datagram that is sure to pass in one piece (DNS flag day 2020).
const MAX_PAYLOAD: u16 = 1232;

/// The longest query by UDP, as long as the longest answer. Real ones are below some 100 bytes.
const MAX_UDP_QUERY: usize = MAX_PAYLOAD as usize;
/// The longest query by TCP.
const MAX_TCP_QUERY: usize = 4096;

/// What the forwarder is told by the policy, and tells it.
pub trait Hooks: Send + Sync + 'static {
    /// Returns how a client is served whose query came in by an interface. The kernel may not name
    /// the interface.
    fn serves(&self, client: IpAddr, interface: Option<u32>) -> Service;

    /// What becomes of a client's question.
    fn decide(&self, client: IpAddr, question: &Question) -> Decision;

    /// Takes an answer with addresses. The client gets the answer when this is done: then the kernel must have what it is to let pass.
    fn learned(&self, client: IpAddr, answer: &Answer) -> impl Future<Output = ()> + Send;
}

/// How a client is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// In full, and at any rate: the gateway itself.
    Gateway,
    /// In full, up to the rate of each client.
    Full,
    /// Up to a rate, as its address may be forged; beyond it by TCP alone.
    Limited,
    /// Not at all.
    None,
}

/// Where the forwarder listens, and whom it asks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to serve by UDP and TCP. [`Hooks::serves`] decides which clients are served.
    pub listen: Vec<SocketAddr>,
    /// Resolvers in the order of preference.
    pub upstreams: Vec<Server>,
    /// CAs, in PEM, by which encrypted upstreams are known; if none, the system's.
    pub ca: Option<PathBuf>,
    /// Bounds of everything.
    pub limits: Limits,
    /// How many queries a client may send a second; if none, any number.
    pub rate: Option<Rate>,
}

/// Bounds of what clients can make the forwarder hold. A client is a device: the addresses of a LAN that
/// the gateway's neighbour tables have the same MAC for, or one address, where they have none. If a LAN or
/// all have too many, the oldest is ended of the client that has most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Queries at a time.
    pub queries: usize,
    /// Queries of one client at a time.
    pub queries_per_client: usize,
    /// Queries of all clients of a LAN at a time.
    pub queries_per_lan: usize,
    /// TCP connections.
    pub connections: usize,
    /// TCP connections of one client.
    pub connections_per_client: usize,
    /// TCP connections of all clients of a LAN.
    pub connections_per_lan: usize,
    /// How long a TCP client may take to send its next query, or to take an answer.
    pub idle: Duration,
    /// How long an upstream may take before the next is asked.
    pub upstream: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queries: 4096,
            queries_per_client: 64,
            queries_per_lan: 1024,
            connections: 256,
            connections_per_client: 16,
            connections_per_lan: 128,
            idle: Duration::from_secs(10),
            upstream: Duration::from_secs(2),
        }
    }
}

/// The server.
pub struct Forwarder<H> {
    udp: Vec<Arc<UdpSocket>>,
    tcp: Vec<Arc<TcpListener>>,
    shared: Arc<Shared<H>>,
}

/// What all that serves shares.
struct Shared<H> {
    hooks: H,
    upstreams: Arc<Upstreams>,
    limits: Limits,
    queries: Places,
    connections: Places,
    neighbours: Neighbours,
    client_rates: Option<ClientRates>,
    /// Answers by UDP to networks in whose name others may send.
    rates: Rates<IpAddr>,
    counters: Arc<Counters>,
}

impl<H: Hooks> Forwarder<H> {
    /// Listens on all addresses; nothing is served before [`run`](Self::run). Must be called in tokio's context.
    ///
    /// # Errors
    /// If there is no upstream, one is encrypted and there are no CAs, an address cannot be had, or the system allows fewer sockets than the limits.
    pub fn bind(config: Config, hooks: H) -> io::Result<Self> {
        let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        if config.upstreams.is_empty() {
            return invalid("no upstream resolver to forward to; name at least one".into());
        }
        if let Some(own) = config.upstreams.iter().find(|upstream| config.listen.contains(&upstream.address)) {
            return invalid(format!("{} is this server itself; name another resolver as upstream", own.address));
        }
        allow_sockets(&config.limits)?;
        let mut udp = Vec::new();
        let mut tcp = Vec::new();
        for &address in &config.listen {
            let refused = |error: io::Error| {
                let message = format!(
                    "cannot serve DNS on {address}: {error}; stop what listens there, or choose another address"
                );
                io::Error::new(error.kind(), message)
            };
            udp.push(Arc::new(udp::bind(address).map_err(refused)?));
            tcp.push(Arc::new(tcp::bind(address).map_err(refused)?));
        }
        let limits = config.limits;
        let upstreams = Upstreams::new(config.upstreams, config.ca.as_deref(), limits.upstream)?;
        let shared = Shared {
            hooks,
            counters: Arc::clone(&upstreams.counters),
            upstreams: Arc::new(upstreams),
            limits,
            queries: Places::new(limits.queries, limits.queries_per_client, limits.queries_per_lan),
            connections: Places::new(limits.connections, limits.connections_per_client, limits.connections_per_lan),
            neighbours: Neighbours::default(),
            client_rates: config.rate.map(ClientRates::new),
            rates: Rates::new(rate::CLIENT),
        };
        Ok(Self { udp, tcp, shared: Arc::new(shared) })
    }

    /// Serves until it is dropped.
    pub async fn run(&self) {
        let mut listeners = JoinSet::new();
        for socket in &self.udp {
            listeners.spawn(serve_udp(Arc::clone(&self.shared), Arc::clone(socket)));
        }
        for listener in &self.tcp {
            listeners.spawn(serve_tcp(Arc::clone(&self.shared), Arc::clone(listener)));
        }
        let shared = Arc::clone(&self.shared);
        listeners.spawn(async move { shared.neighbours.follow().await });
        listeners.join_all().await;
    }

    /// The resolvers that it asks.
    #[must_use]
    pub fn upstreams(&self) -> Arc<Upstreams> {
        Arc::clone(&self.shared.upstreams)
    }

    /// The counters now.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        self.shared.counters.snapshot()
    }
}

/// How long to wait when the system is out of memory or descriptors: to try again at once would spin.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(100);

async fn serve_udp<H: Hooks>(shared: Arc<Shared<H>>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let Ok((length, ends)) = udp::receive(&socket, &mut buffer).await else {
            time::sleep(OUT_OF_RESOURCES).await;
            continue;
        };
        let service = shared.hooks.serves(ends.client.ip(), Some(ends.interface));
        if service == Service::None {
            shared.counters.outside.add();
            continue;
        }
        let (device, now) = (shared.device(ends.client.ip(), Some(ends.interface)), Instant::now());
        let is_over = |rates: &ClientRates| rates.take(device, now).is_err();
        if service == Service::Full && shared.rates_of(service).is_some_and(is_over) {
            shared.counters.over_client_rate.add();
            continue;
        }
        let is_over_rate = service == Service::Limited && shared.rates.take(network(ends.client.ip()), now).is_err();
        let Some(place) = shared.queries.try_take(device) else {
            shared.counters.over_limit.add();
            continue;
        };
        let message = if length > MAX_UDP_QUERY {
            Bounded::TooLong(buffer[..HEADER].to_vec())
        } else {
            Bounded::Whole(buffer[..length].to_vec())
        };
        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        tokio::spawn(async move {
            let answer = if is_over_rate {
                shared.truncated(message)
            } else {
                shared.answer(ends.client.ip(), message, Transport::Udp, &place).await
            };
            if let Some(answer) = answer {
                // A client that cannot be reached asks again.
                let _ = udp::send(&socket, &answer, ends).await;
            }
            drop(place);
        });
    }
}

async fn serve_tcp<H: Hooks>(shared: Arc<Shared<H>>, listener: Arc<TcpListener>) {
    loop {
        let Ok((connection, client)) = listener.accept().await else {
            time::sleep(OUT_OF_RESOURCES).await;
            continue;
        };
        let interface = tcp::interface(&connection);
        let service = shared.hooks.serves(client.ip(), interface);
        if service == Service::None {
            shared.counters.outside.add();
            continue;
        }
        let device = shared.device(client.ip(), interface);
        let Some(place) = shared.connections.try_take(device) else {
            shared.counters.connections_over_limit.add();
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::select! {
                () = tcp::serve(Arc::clone(&shared), connection, client.ip(), device, service) => {}
                () = place.ended() => shared.counters.connections_over_limit.add(),
            }
        });
    }
}

impl<H: Hooks> Shared<H> {
    /// Returns the rates of clients that are served so.
    fn rates_of(&self, service: Service) -> Option<&ClientRates> {
        self.client_rates.as_ref().filter(|_| service != Service::Gateway)
    }

    /// Returns which device a client is, by its address and the interface that it asks by.
    fn device(&self, client: IpAddr, interface: Option<u32>) -> Device {
        let lan = interface.unwrap_or_default();
        let mac = self.neighbours.mac(lan, client);
        Device { lan, station: mac.map_or(Station::Address(client), Station::Mac) }
    }

    /// The query in a client's message, or else the answer to what is none, if it gets one.
    fn read(&self, message: Bounded) -> Result<Query, Option<Vec<u8>>> {
        self.counters.queries.add();
        let read = match message {
            Bounded::Whole(message) => Query::read(message),
            Bounded::TooLong(start) => Err(Fault::of_too_long(&start)),
        };
        read.map_err(|fault| {
            self.counters.unfit.add();
            match fault {
                Fault::Noise => None,
                Fault::Told(header, code) => Some(reply::bare(&header, code)),
            }
        })
    }

    /// Returns an answer without records, no longer than the query: a true client comes by TCP.
    fn truncated(&self, message: Bounded) -> Option<Vec<u8>> {
        self.read(message).map_or_else(identity, |query| {
            self.counters.over_rate.add();
            Some(reply::truncated(&query))
        })
    }

    /// The answer to a client's message, if it gets one.
    async fn answer(&self, client: IpAddr, message: Bounded, transport: Transport, place: &Place) -> Option<Vec<u8>> {
        let query = match self.read(message) {
            Ok(query) => query,
            Err(answer) => return answer,
        };
        let (counter, reply) = match self.hooks.decide(client, &query.question) {
            Decision::Forward => return Some(self.forward(client, &query, transport, place).await),
            Decision::NxDomain => (&self.counters.nxdomain, reply::no_such_name(&query)),
            Decision::Zero => (&self.counters.zero, reply::zero(&query)),
            Decision::Refuse => (&self.counters.refused, reply::refusal(&query)),
        };
        counter.add();
        Some(reply)
    }

    async fn forward(&self, client: IpAddr, query: &Query, transport: Transport, place: &Place) -> Vec<u8> {
        let (answer, counter) = tokio::select! {
            answer = self.upstreams.ask(query, transport) => (answer, &self.counters.failed),
            () = place.ended() => (None, &self.counters.displaced),
        };
        let Some(mut answer) = answer else {
            counter.add();
            return reply::failure(query);
        };
        match Answer::read(&answer) {
            Ok(answer) if answer.addresses.is_empty() => {}
            Ok(answer) => self.hooks.learned(client, &answer).await,
            Err(_) => self.counters.unreadable.add(),
        }
        self.counters.answers.add();
        query.claim(&mut answer);
        answer
    }
}

/// Lets the process have a socket for every query and connection, which by default it may not.
fn allow_sockets(limits: &Limits) -> io::Result<()> {
    /// For everything else that the process has open.
    const OTHERS: usize = 1024;
    let wanted = (limits.queries + limits.connections + OTHERS) as u64;
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if now >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, most.max(wanted)).map_err(|error| {
        let message =
            format!("{wanted} open files are needed and {now} allowed; raise the limit (LimitNOFILE={wanted})");
        io::Error::new(io::Error::from(error).kind(), message)
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use tokio::runtime::Runtime;

    use super::{Config, Decision, Forwarder, Hooks, Limits, Service};
    use crate::dns::{Answer, Question};

    struct Nobody;

    impl Hooks for Nobody {
        fn serves(&self, _: IpAddr, _: Option<u32>) -> Service {
            Service::Full
        }

        fn decide(&self, _: IpAddr, _: &Question) -> Decision {
            Decision::Forward
        }

        async fn learned(&self, _: IpAddr, _: &Answer) {}
    }

    fn refusal(listen: SocketAddr, upstreams: &[SocketAddr]) -> String {
        let upstreams = upstreams.iter().map(|&upstream| upstream.into()).collect();
        let config = Config { listen: vec![listen], upstreams, ca: None, limits: Limits::default(), rate: None };
        let bound = Runtime::new().unwrap().block_on(async { Forwarder::bind(config, Nobody) });
        bound.err().unwrap().to_string()
    }

    #[test]
    fn what_cannot_serve_says_why() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(refusal(address, &[]), "no upstream resolver to forward to; name at least one");
        let own = format!("{address} is this server itself; name another resolver as upstream");
        assert_eq!(refusal(address, &[address]), own);
        let in_use = format!(
            "cannot serve DNS on {address}: Address already in use (os error 98); stop what listens there, or choose another address"
        );
        assert_eq!(refusal(address, &["192.0.2.1:53".parse().unwrap()]), in_use);
    }
}
