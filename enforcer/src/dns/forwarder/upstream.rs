//! Asking the resolvers behind.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpStream, UdpSocket},
    time,
};

use super::{counters::Counters, health::Health, query::Query, stream};

/// The largest message.
const MAX_MESSAGE: usize = 65_535;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One in a datagram.
    Udp,
    /// Many on a connection.
    Tcp,
}

/// Resolvers, of which any can answer.
pub struct Upstreams {
    addresses: Vec<SocketAddr>,
    /// One that takes no TCP may still be well by UDP.
    health: [Mutex<Health>; 2],
    patience: Duration,
    counters: Arc<Counters>,
}

impl Upstreams {
    /// Resolvers in the order of preference, and how long each may take to answer.
    pub fn new(addresses: Vec<SocketAddr>, patience: Duration, counters: Arc<Counters>) -> Self {
        let health = [(); 2].map(|()| Mutex::new(Health::new(addresses.len(), patience)));
        Self { addresses, health, patience, counters }
    }

    /// Each with whether it is asked before those that do not answer by UDP.
    pub fn well(&self) -> Vec<(SocketAddr, bool)> {
        let health = self.health(Transport::Udp);
        let well = |(which, address): (usize, &SocketAddr)| (*address, health.is_well(which, Instant::now()));
        self.addresses.iter().enumerate().map(well).collect()
    }

    /// The first answer that one of them gives, under an id of its own; none if all fail.
    pub async fn ask(&self, query: &Query, transport: Transport) -> Option<Vec<u8>> {
        let order = self.health(transport).order(Instant::now());
        for which in order {
            let asked = Instant::now();
            let upstream = self.addresses[which];
            let answer = async {
                match transport {
                    Transport::Udp => self.by_udp(upstream, query).await,
                    Transport::Tcp => self.by_tcp(upstream, query).await,
                }
            };
            match time::timeout(self.patience, answer).await {
                Ok(Ok(answer)) => {
                    self.health(transport).answered(which);
                    return Some(answer);
                }
                // Refused, unreachable or closed: there is nothing to wait for.
                Ok(Err(_)) => {}
                Err(_) => self.counters.timeouts.add(),
            }
            self.counters.upstream_failures[which].1.add();
            self.health(transport).failed(which, asked, Instant::now());
        }
        None
    }

    /// A socket for each query has a random port, and takes datagrams from the upstream's address and port alone. With the random id, who cannot see the
    /// query must guess some 30 bits while it is open (RFC 5452).
    async fn by_udp(&self, upstream: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
        let any = if upstream.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(upstream).await?;
        let id = rand::random();
        socket.send(&query.with_id(id)).await?;
        loop {
            // Thousands may wait; only who has something to read takes memory for it.
            socket.readable().await?;
            let mut message = Vec::with_capacity(MAX_MESSAGE);
            match socket.try_recv_buf(&mut message) {
                Ok(_) if query.is_answered_by(&message, id) => {
                    message.shrink_to_fit();
                    return Ok(message);
                }
                // The true answer may still come.
                Ok(_) => self.counters.mismatched.add(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn by_tcp(&self, upstream: SocketAddr, query: &Query) -> io::Result<Vec<u8>> {
        let mut connection = TcpStream::connect(upstream).await?;
        let id = rand::random();
        stream::write(&mut connection, &query.with_id(id)).await?;
        loop {
            let message = stream::read(&mut connection).await?;
            if query.is_answered_by(&message, id) {
                return Ok(message);
            }
            self.counters.mismatched.add();
        }
    }

    fn health(&self, transport: Transport) -> MutexGuard<'_, Health> {
        self.health[transport as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
