//! The PAC file over HTTP: to anybody who reaches the address, and nothing else.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use axum::{Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get};
use futures_util::future::join_all;
use tokio::net::TcpListener;

use super::{
    connections::{self, Peer},
    server::{REMOTE, network},
};
use crate::{export::pac::MEDIA_TYPE, net::listen};

/// What gives the file as it is now; nothing if the policy in force has no proxies.
pub type File = Arc<dyn Fn() -> Option<Arc<str>> + Send + Sync>;

/// Where it is served.
pub struct PacServer(Vec<TcpListener>);

impl PacServer {
    /// Listens. Nobody is served yet.
    ///
    /// # Errors
    /// If an address is taken or cannot be had.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self> {
        let mut listeners = Vec::new();
        for address in addresses {
            let bound = listen::tcp(*address);
            listeners.push(bound.with_context(|| format!("cannot serve the PAC file on {address}"))?);
        }
        Ok(Self(listeners))
    }

    /// Serves until it is dropped; without addresses, for ever nobody.
    pub async fn serve(&self, file: File) {
        let router = Router::new().route("/proxy.pac", get(answer)).route("/wpad.dat", get(answer)).with_state(file);
        let all = self.0.iter().map(|listener| {
            connections::serve(
                async || {
                    let (stream, from) = listener.accept().await?;
                    Ok((stream, Peer::Network(network(from.ip()))))
                },
                REMOTE,
                router.clone(),
            )
        });
        join_all(all).await;
        std::future::pending::<()>().await;
    }
}

async fn answer(State(file): State<File>) -> impl IntoResponse {
    match file() {
        Some(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text.to_string()).into_response(),
        None => (StatusCode::NOT_FOUND, "the policy in force names no proxy\n").into_response(),
    }
}
