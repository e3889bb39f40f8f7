//! The server: everything on the Unix socket, and on TCP, where that is asked for, what is safe to tell to a network.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use axum::middleware::from_fn_with_state;
use futures_util::future::join_all;
use nix::unistd::Gid;
use tokio::net::{TcpListener, UnixStream};

use super::{
    connections::{self, Limits, Peer},
    hosts::{self, Names},
    routes,
    socket::Socket,
    source::Source,
};
use crate::{dns::Name, net::listen};

/// Bytes of a policy that is sent: a million prefixes take half of it.
pub const LARGEST_POLICY: usize = 64 << 20;
/// Connections of the socket's clients: one process may have all, as long as no other wants any.
const LOCAL: Limits = Limits { all: 128, of_peer: usize::MAX, largest_policy: LARGEST_POLICY };
/// Connections over TCP.
pub const REMOTE: Limits = Limits { all: 64, of_peer: 16, largest_policy: 0 };

/// Where the API is served.
pub struct Server {
    socket: Socket,
    metrics: Vec<TcpListener>,
    /// Beside its addresses.
    names: Names,
}

impl Server {
    /// Listens on a Unix socket, whose file is a group's, and on TCP addresses, where requests may be for these names, too. Nobody is served yet.
    ///
    /// # Errors
    /// If one of them is taken or cannot be had.
    pub fn bind(socket: &Path, group: Option<Gid>, metrics: &[SocketAddr], names: &[Name]) -> Result<Self> {
        let socket =
            Socket::bind(socket, group).with_context(|| format!("cannot serve the API on {}", socket.display()))?;
        let mut listeners = Vec::new();
        for address in metrics {
            let bound = listen::tcp(*address);
            listeners.push(bound.with_context(|| format!("cannot serve metrics on {address}"))?);
        }
        Ok(Self { socket, metrics: listeners, names: names.into() })
    }

    /// The first of the TCP addresses, as it came out.
    #[cfg(test)]
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics[0].local_addr().expect("a bound socket has an address")
    }

    /// Serves until it is dropped.
    pub async fn serve(&self, source: Arc<dyn Source>) {
        let local = connections::serve(
            async || {
                let (stream, _) = self.socket.listener.accept().await?;
                let peer = process(&stream);
                Ok((stream, peer))
            },
            LOCAL,
            routes::router(routes::all(), Arc::clone(&source)),
        );
        let remote = self.metrics.iter().map(|listener| {
            connections::serve(
                async || {
                    let (stream, from) = listener.accept().await?;
                    Ok((stream, Peer::Network(network(from.ip()))))
                },
                REMOTE,
                routes::router(routes::read_only(), Arc::clone(&source))
                    .layer(from_fn_with_state(Arc::clone(&self.names), hosts::check)),
            )
        });
        tokio::join!(local, join_all(remote));
    }
}

fn process(stream: &UnixStream) -> Peer {
    Peer::Process(stream.peer_cred().ok().and_then(|credentials| credentials.pid()))
}

/// An address, or the /64 that it is of.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// A group by its name or number.
///
/// # Errors
/// If there is none of that name.
pub fn group(word: &str) -> Result<Gid, String> {
    if let Ok(number) = word.parse() {
        return Ok(Gid::from_raw(number));
    }
    match nix::unistd::Group::from_name(word) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => {
            Err(format!("there is no group {word:?}: make it with `groupadd --system {word}`, or name another"))
        }
        Err(error) => Err(format!("cannot look for a group {word:?}: {}", io::Error::from(error))),
    }
}
