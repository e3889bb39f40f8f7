//! The server. Nothing can be changed through it for now, but that a name's addresses are asked for. Access is the socket file's mode.

use std::{
    convert::Infallible,
    fs, io,
    net::IpAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    body::{self, Body},
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::{get, post},
};
use futures_util::{Stream, StreamExt as _, future::BoxFuture, stream};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::Deserialize;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{
        Semaphore,
        broadcast::{
            self,
            error::{RecvError, TryRecvError},
        },
    },
    time,
};

use super::{
    policies::{Applied, Apply, History, Rollback},
    types::{self, Counters, Events, Problem, Resolve, Resolved, Status},
};
use crate::dns::{Name, name::NotAName};
use crate::policy::Bundle;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 64;
/// Streams among them, which have no end: the other places are for short requests.
const STREAMS: usize = 48;
/// A client that has not sent its request's headers, or its body, by then is cut off.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Bytes of a request's body.
const MAX_BODY: usize = 4096;
/// How often a stream sends.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the controller tells.
pub trait Source: Send + Sync + 'static {
    /// The state of things.
    fn status(&self) -> Status;
    /// The counters now.
    fn counters(&self) -> Counters;
    /// The latest events, oldest first, and those that come behind them.
    fn events(&self) -> (Vec<types::Event>, broadcast::Receiver<types::Event>);
    /// How many were not told.
    fn events_lost(&self) -> u64;
    /// The names' addresses.
    fn names(&self) -> types::Names;
    /// Asks resolvers for a name, and learns what they say. An error says what is wrong.
    fn resolve(&self, name: Name) -> BoxFuture<'_, Result<Resolved, String>>;
    /// The policy in force, with all of its files.
    fn policy(&self) -> Bundle;
    /// Policies that were in force.
    fn history(&self) -> History;
    /// Puts a policy in force. An error says why nothing has changed.
    fn apply(self: Arc<Self>, apply: Apply) -> BoxFuture<'static, Result<Applied, String>>;
    /// Lets one stay that waits to be confirmed. An error says that there is none.
    fn confirm(&self) -> Result<Applied, String>;
    /// Goes back to an earlier policy. An error says why nothing has changed.
    fn roll_back(self: Arc<Self>, rollback: Rollback) -> BoxFuture<'static, Result<Applied, String>>;
    /// Ends the controller, and takes all programs off their interfaces.
    fn detach(&self);
}

/// Which events somebody asks for.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Those of a service.
    service: Option<String>,
}

impl Wanted {
    fn takes(&self, event: &types::Event) -> bool {
        self.service.is_none() || event.service == self.service
    }
}

/// The socket's file; dropping it removes the file.
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens on a path, mode 0660. A socket that a dead controller left is replaced; a live one's is not.
///
/// # Errors
/// If a controller answers there, something else than a socket is there, or the file cannot be made.
pub fn bind(path: &Path) -> io::Result<Socket> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let message =
            format!("another controller answers on {}; stop it first, or choose another --socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        let message = format!("{} is there and is no socket; choose another --socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    // Made under another name: nobody can connect before the mode is right, and what is at the path is replaced at once.
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let _ = fs::remove_file(&draft);
    let made = UnixListener::bind(&draft).and_then(|listener| {
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o660))?;
        fs::rename(&draft, path)?;
        Ok(Socket { path: path.to_owned(), listener })
    });
    if made.is_err() {
        let _ = fs::remove_file(&draft);
    }
    made
}

/// Serves until it is dropped.
pub async fn serve(socket: &Socket, source: Arc<dyn Source>) {
    let router = Router::new()
        .route("/v1/status", get(async |State(source): State<Arc<dyn Source>>| Json(source.status())))
        .route("/v1/names", get(async |State(source): State<Arc<dyn Source>>| Json(source.names())))
        .route("/v1/resolve", post(resolve))
        .route("/v1/counters", get(async |State(source): State<Arc<dyn Source>>| Json(source.counters())))
        .route(
            "/v1/counters/stream",
            get(async |State(source): State<Arc<dyn Source>>, Extension(Streams(places)): Extension<Streams>| {
                endless(&places, follow(source))
            }),
        )
        .route(
            "/v1/events",
            get(async |State(source): State<Arc<dyn Source>>, wanted: Asked| {
                asked(wanted).map(|wanted| Json(recent(&*source, &wanted)))
            }),
        )
        .route(
            "/v1/events/stream",
            get(
                async |State(source): State<Arc<dyn Source>>,
                       Extension(Streams(places)): Extension<Streams>,
                       wanted: Asked| { endless(&places, follow_events(source, asked(wanted)?)) },
            ),
        )
        .fallback(async || {
            let detail = "there are /v1/status, /v1/names, /v1/resolve, /v1/counters and /v1/events, and the latter two's /stream";
            problem(StatusCode::NOT_FOUND, "no such path", detail)
        })
        .method_not_allowed_fallback(async || {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", "use POST for /v1/resolve, and GET for all others")
        })
        .layer(Extension(Streams(Arc::new(Semaphore::new(STREAMS)))))
        .with_state(source);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match socket.listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    // A client's broken connection is the client's affair.
                    let _ = connection(stream, router).await;
                    drop(place);
                });
            }
            // Out of descriptors: accepting again at once would spin.
            Err(_) => time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: UnixStream, router: Router) -> hyper::Result<()> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

fn follow(source: Arc<dyn Source>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((source, time::interval(INTERVAL)), async |(source, mut interval)| {
        interval.tick().await;
        // Numbers and names always make JSON.
        let event = Event::default().json_data(source.counters()).unwrap_or_default();
        Some((Ok(event), (source, interval)))
    })
}

async fn resolve(State(source): State<Arc<dyn Source>>, body: Body) -> Result<Json<Resolved>, Response> {
    let bad = |detail: String| problem(StatusCode::BAD_REQUEST, "not a name", &detail);
    let body = time::timeout(REQUEST_TIME, body::to_bytes(body, MAX_BODY)).await;
    let body = body.map_err(|_| bad("it did not come in time".into()))?.map_err(|error| bad(error.to_string()))?;
    let asked: Resolve = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let name: Name = asked.name.parse().map_err(|error: NotAName| bad(error.to_string()))?;
    if asked.name.contains('*') || asked.name.parse::<IpAddr>().is_ok() {
        return Err(bad(format!("{} is no one name", asked.name)));
    }
    source.resolve(name).await.map(Json).map_err(|why| problem(StatusCode::BAD_GATEWAY, "not resolved", &why))
}

/// Places for streams.
#[derive(Clone)]
struct Streams(Arc<Semaphore>);

/// A stream of events, if there is a place for it; it is given back when the reader is gone.
fn endless<S>(places: &Arc<Semaphore>, events: S) -> Result<Sse<impl Stream<Item = S::Item> + use<S>>, Response>
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let place = Arc::clone(places).try_acquire_owned().map_err(|_| {
        problem(StatusCode::SERVICE_UNAVAILABLE, "too many streams", &format!("there are {STREAMS}: end one of them"))
    })?;
    Ok(Sse::new(events.inspect(move |_| {
        let _ = &place;
    })))
}

/// A query, or what is wrong with it.
type Asked = Result<Query<Wanted>, QueryRejection>;

fn asked(query: Asked) -> Result<Wanted, Response> {
    query.map(|Query(wanted)| wanted).map_err(|error| {
        problem(StatusCode::BAD_REQUEST, "not a query", &format!("{}; there is ?service=NAME, once", error.body_text()))
    })
}

fn recent(source: &dyn Source, wanted: &Wanted) -> Events {
    let (mut events, _) = source.events();
    events.retain(|event| wanted.takes(event));
    Events { events, lost: source.events_lost(), behind: 0 }
}

/// The latest events, then others as they come, some at a time.
fn follow_events(source: Arc<dyn Source>, wanted: Wanted) -> impl Stream<Item = Result<Event, Infallible>> {
    /// So many in a message.
    const BATCH: usize = 256;
    let (mut events, receiver) = source.events();
    events.retain(|event| wanted.takes(event));
    stream::unfold((source, events, receiver, wanted), async |(source, events, mut receiver, wanted)| {
        let mut told = Events { events, ..Events::default() };
        while told.events.len() < BATCH {
            // Waits for the first; what else is there already goes with it.
            let next = if told.events.is_empty() && told.behind == 0 {
                receiver.recv().await
            } else {
                receiver.try_recv().map_err(|error| match error {
                    TryRecvError::Lagged(count) => RecvError::Lagged(count),
                    TryRecvError::Empty | TryRecvError::Closed => RecvError::Closed,
                })
            };
            match next {
                Ok(event) if wanted.takes(&event) => told.events.push(event),
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => told.behind += count,
                Err(RecvError::Closed) if told == Events::default() => return None,
                Err(RecvError::Closed) => break,
            }
        }
        told.lost = source.events_lost();
        // Numbers and names always make JSON.
        let event = Event::default().json_data(&told).unwrap_or_default();
        Some((Ok(event), (source, Vec::new(), receiver, wanted)))
    })
}

fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let problem = Problem { title: title.into(), status: status.as_u16(), detail: detail.into() };
    (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response()
}
