//! One upstream, whichever way it is asked.

use std::{io, sync::Arc, time::Instant};

use super::{
    super::{counters::Counters, query::Query, reply},
    Transport,
    fault::Fault,
    https::{self, Https},
    kept::Kept,
    plain::Plain,
    server::{Server, Way},
    tls::Tls,
    trust::{Handshake, Trust},
};

/// The way to one upstream.
pub struct Line {
    /// Where it leads.
    pub server: Server,
    means: Means,
}

/// What it takes.
enum Means {
    Plain(Box<Plain>),
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
            Way::Plain => Means::Plain(Box::new(Plain::new(address, counters))),
            Way::Tls { name } => {
                // Resolvers know no ALPN name for it, and some refuse those that they do not know.
                let handshake = Handshake::new(name.clone(), trust.client(None)?);
                Means::Tls(Kept::new(Tls { handshake, counters }, address))
            }
            Way::Https { name, path } => {
                let tls = trust.client(Some(https::ALPN))?;
                let https = Https::new(address, name, path.clone(), tls, counters);
                Means::Https(Kept::new(https.map_err(io::Error::other)?, address))
            }
        };
        Ok(Self { server, means })
    }

    /// The answer as it is to go to who asked by a transport.
    pub async fn ask(&self, query: &Query, transport: Transport) -> Result<Vec<u8>, Fault> {
        let whole = match (&self.means, transport) {
            (Means::Plain(plain), Transport::Udp) => return Ok(plain.by_udp(query).await?),
            (Means::Plain(plain), Transport::Tcp) => plain.by_tcp(query).await?,
            (Means::Tls(kept), _) => kept.ask(query).await?,
            (Means::Https(kept), _) => kept.ask(query).await?,
        };
        Ok(match transport {
            Transport::Udp => reply::fit(query, whole),
            Transport::Tcp => whole,
        })
    }

    /// It was asked at a time by a transport, and there was no answer for too long.
    pub fn silent_since(&self, query: &Query, transport: Transport, asked: Instant) {
        match &self.means {
            Means::Plain(_) if transport == Transport::Udp => {}
            Means::Plain(plain) => plain.silent_since(query, asked),
            Means::Tls(kept) => kept.silent_since(asked),
            Means::Https(kept) => kept.silent_since(asked),
        }
    }
}
