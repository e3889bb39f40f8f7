//! One upstream, whichever way it is asked.

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use super::{
    super::{counters::Counters, query::Query, reply},
    Transport,
    fault::Fault,
    https::{self, Https},
    kept::Kept,
    plain,
    server::{Server, Way},
    tls::Tls,
    trust::Trust,
};

/// The way to one upstream.
pub struct Line {
    /// Where it leads.
    pub server: Server,
    means: Means,
    counters: Arc<Counters>,
}

/// What it takes.
enum Means {
    Plain(SocketAddr),
    Tls(Kept<Tls>),
    Https(Kept<Https>),
}

impl Line {
    /// To a server. No connection is made yet.
    ///
    /// # Errors
    /// If TLS cannot be had, or name and path make no URL.
    pub fn new(server: Server, trust: &Trust, counters: Arc<Counters>) -> io::Result<Self> {
        let address = server.address;
        let means = match &server.way {
            Way::Plain => Means::Plain(address),
            Way::Tls { name } => {
                let tls = Tls { counters: Arc::clone(&counters) };
                // Resolvers know no ALPN name for it, and some refuse those that they do not know.
                Means::Tls(Kept::new(tls, address, name.clone(), trust.client(None)?))
            }
            Way::Https { name, path } => {
                let https = Https::new(address, name, path.clone(), Arc::clone(&counters)).map_err(io::Error::other)?;
                Means::Https(Kept::new(https, address, name.clone(), trust.client(Some(https::ALPN))?))
            }
        };
        Ok(Self { server, means, counters })
    }

    /// The answer as it is to go to who asked by a transport.
    pub async fn ask(&self, query: &Query, transport: Transport) -> Result<Vec<u8>, Fault> {
        let whole = match (&self.means, transport) {
            (Means::Plain(address), Transport::Udp) => {
                return Ok(plain::by_udp(*address, query, &self.counters).await?);
            }
            (Means::Plain(address), Transport::Tcp) => {
                return Ok(plain::by_tcp(*address, query, &self.counters).await?);
            }
            (Means::Tls(kept), _) => kept.ask(query).await?,
            (Means::Https(kept), _) => kept.ask(query).await?,
        };
        Ok(match transport {
            Transport::Udp => reply::fit(query, whole),
            Transport::Tcp => whole,
        })
    }

    /// It was asked at a time, and there was no answer for too long.
    pub fn silent_since(&self, asked: Instant) {
        match &self.means {
            Means::Plain(_) => {}
            Means::Tls(kept) => kept.silent_since(asked),
            Means::Https(kept) => kept.silent_since(asked),
        }
    }
}
