//! One connection: requests one behind the other, each bounded in time and size before anything looks at it.

use std::{
    convert::Infallible,
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Semaphore,
    time,
};

use super::{policies, types::Problem};

/// A client that has not sent its request's headers, or its body, by then is cut off.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Bytes of a request's body.
const MAX_BODY: usize = 64 * 1024;
/// Policies that are being received at a time: each may take as much memory as there are bytes in it.
static POLICIES: Semaphore = Semaphore::const_new(2);
/// Bytes of a request's target and headers.
const MAX_HEAD: usize = 16 * 1024;
/// What is read of a request's head at most. Between these two, a client is told; beyond, it gets a bare status.
const MAX_READ: usize = 64 * 1024;

/// Since when a connection waits for its client, if it does.
pub struct Patience(Mutex<Waits>);

struct Waits {
    /// A request has come, and its answer is not written yet.
    serves: bool,
    /// The client does not read.
    stuck: bool,
    since: Instant,
}

impl Patience {
    /// A connection has come; now its client is to send a request.
    pub fn new() -> Self {
        Self(Mutex::new(Waits { serves: false, stuck: false, since: Instant::now() }))
    }

    /// Since when the client is waited for.
    pub fn since(&self) -> Option<Instant> {
        let Waits { serves, stuck, since } = *self.lock();
        (stuck || !serves).then_some(since)
    }

    fn serves(&self, serves: bool) {
        let mut waits = self.lock();
        (waits.serves, waits.since) = (serves, Instant::now());
    }

    fn stuck(&self, stuck: bool) {
        let mut waits = self.lock();
        if waits.stuck != stuck {
            (waits.stuck, waits.since) = (stuck, Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request is being served until this is dropped.
struct Serving(Arc<Patience>);

impl Serving {
    fn begin(patience: &Arc<Patience>) -> Self {
        patience.serves(true);
        Self(Arc::clone(patience))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serves(false);
    }
}

/// A connection that notices whether its client reads.
struct Watched<S> {
    stream: S,
    patience: Arc<Patience>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patience.stuck(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Serves a connection until its client ends it, or sends nothing for too long.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    router: Router,
    patience: Arc<Patience>,
    largest_policy: usize,
) {
    let watched = Watched { stream, patience: Arc::clone(&patience) };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(MAX_READ)
        .serve_connection(
            TokioIo::new(watched),
            service_fn(|request| answer(router.clone(), Arc::clone(&patience), largest_policy, request)),
        )
        .await;
    // How a client's connection ends is the client's affair.
    drop(served);
}

async fn answer(
    router: Router,
    patience: Arc<Patience>,
    largest_policy: usize,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let request = match whole(request, largest_policy).await {
        Ok(request) => request,
        Err(problem) => return Ok(problem.into_response()),
    };
    let serving = Serving::begin(&patience);
    let answering = AssertUnwindSafe(TowerToHyperService::new(router).call(request)).catch_unwind();
    let Ok(Ok(response)) = answering.await else {
        // What has panicked is in the log already.
        let detail = "a defect of the controller: its log tells where";
        return Ok(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response());
    };
    // A stream is served for as long as it lasts.
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &serving;
            frame
        }))
    }))
}

/// A request that is there as a whole, if it is not too large.
async fn whole(request: Request<Incoming>, largest_policy: usize) -> Result<Request<Full<Bytes>>, Problem> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target + length(&head.headers) > MAX_HEAD {
        let detail = format!("target and headers have more than {MAX_HEAD} bytes");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail));
    }
    let most = if head.uri.path() == policies::APPLY { largest_policy.max(MAX_BODY) } else { MAX_BODY };
    let _place = match most > MAX_BODY {
        true => Some(POLICIES.try_acquire().map_err(|_| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "other policies are being received already: try again")
        })?),
        false => None,
    };
    let collected = time::timeout(REQUEST_TIME, Limited::new(body, most).collect()).await.map_err(|_| {
        let detail = format!("the body did not come within {} seconds", REQUEST_TIME.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
    })?;
    match collected {
        Ok(body) => Ok(Request::from_parts(head, Full::new(body.to_bytes()))),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {most} bytes")))
        }
        Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))),
    }
}

fn length(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}
