//! The client: one request over the controller's socket.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    http::request::Builder,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::{net::UnixStream, time};

use super::{server::LARGEST_POLICY, types::Problem};

/// Nobody serves the API where it was looked for.
#[derive(Debug, Error)]
pub enum NoController {
    /// There is no socket, or one that nobody listens on.
    #[error("no controller on {}: start one with `enforcer run`, or say where its --socket is", .0.display())]
    Absent(PathBuf),
    /// It may be running, but is not for this user.
    #[error("no controller on {} that answers you: be root, or in the group of the socket", .0.display())]
    Forbidden(PathBuf),
    /// It is there, but takes no connection now.
    #[error("the controller on {} does not answer: try again, and see what it logs", .0.display())]
    Silent(PathBuf),
    /// It was asked, and has said nothing yet.
    #[error("the controller on {} has not answered in time: see what it logs", .0.display())]
    Late(PathBuf),
    /// It was asked, and ended before it had answered.
    #[error("the controller on {} ended before it had answered", .0.display())]
    Ended(PathBuf),
}

impl NoController {
    /// Whether it may have done what it was asked for.
    #[must_use]
    pub const fn was_asked(&self) -> bool {
        matches!(self, Self::Late(_) | Self::Ended(_))
    }
}

/// Longer than a controller takes that is alive.
const PATIENCE: Duration = Duration::from_secs(10);

/// The JSON at a path.
///
/// # Errors
/// If no controller answers, or it answers with a problem.
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    whole(socket, request(socket, Request::get(path), Bytes::new()), PATIENCE).await
}

/// The JSON that comes of a JSON sent to a path.
///
/// # Errors
/// As [`get`].
pub async fn post<T: DeserializeOwned>(socket: &Path, path: &str, body: &impl Serialize) -> Result<T> {
    post_patiently(socket, path, body, PATIENCE).await
}

/// The same for what takes long.
///
/// # Errors
/// As [`get`].
pub async fn post_patiently<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    body: &impl Serialize,
    patience: Duration,
) -> Result<T> {
    let head = Request::post(path).header("content-type", "application/json");
    let body = serde_json::to_vec(body)?;
    // A controller says so, too, but may have closed the connection before it is read.
    ensure!(body.len() <= LARGEST_POLICY, "it takes {} bytes to send, and the API takes {LARGEST_POLICY}", body.len());
    whole(socket, request(socket, head, body.into()), patience).await
}

async fn whole<T: DeserializeOwned>(
    socket: &Path,
    response: impl Future<Output = Result<Response<Incoming>>>,
    patience: Duration,
) -> Result<T> {
    let body = async {
        let body = response.await?.collect().await;
        Ok(body.with_context(|| NoController::Ended(socket.to_owned()))?.to_bytes())
    };
    let body = time::timeout(patience, body).await;
    let body = body.with_context(|| NoController::Late(socket.to_owned())).flatten()?;
    serde_json::from_slice(&body).context("the controller's answer is not what this version expects")
}

/// Calls `each` with the JSON of every event of a stream, until it says no more or the controller stops.
///
/// # Errors
/// As [`get`], or what `each` returns.
pub async fn stream<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    mut each: impl FnMut(T) -> Result<bool>,
) -> Result<()> {
    let mut response = request(socket, Request::get(path), Bytes::new()).await?;
    let mut pending = Vec::new();
    // A stream has no end of its own: one that breaks off is a controller that stopped.
    while let Some(Ok(frame)) = response.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Some(json) = line.strip_prefix(b"data:")
                && !each(
                    serde_json::from_slice(json).context("the controller's event is not what this version expects")?,
                )?
            {
                return Ok(());
            }
        }
    }
    bail!("the controller has stopped")
}

async fn request(socket: &Path, head: Builder, body: Bytes) -> Result<Response<Incoming>> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        let path = socket.to_owned();
        let what = match error.kind() {
            ErrorKind::PermissionDenied => NoController::Forbidden(path),
            // Too many connections wait there.
            ErrorKind::WouldBlock => NoController::Silent(path),
            _ => NoController::Absent(path),
        };
        Error::new(error).context(what)
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = head.header("host", "enforcer").body(Full::new(body))?;
    let response = sender.send_request(request).await.with_context(|| NoController::Ended(socket.to_owned()))?;
    if !response.status().is_success() {
        let body = response.collect().await?.to_bytes();
        let problem: Problem =
            serde_json::from_slice(&body).context("the controller answered with an error of its own kind")?;
        bail!("{}", problem.detail);
    }
    Ok(response)
}
