//! Server-sent events: what has no end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{Sse, sse::Event},
};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    sync::{
        Semaphore,
        broadcast::error::{RecvError, TryRecvError},
    },
    time,
};

use super::{
    routes::{Asked, Shared, Wanted},
    source::Source,
    types::{Counters, Events, Problem},
};

/// Streams of a listener at a time; the other places are for what ends.
const STREAMS: usize = 48;
/// How often counters are sent.
const INTERVAL: Duration = Duration::from_secs(1);

/// Places for streams.
#[derive(Clone)]
pub struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS)))
    }
}

impl Streams {
    /// A stream of events, if there is a place for it; it is given back when the reader is gone.
    fn begin<S>(&self, events: S) -> Result<Sse<impl Stream<Item = S::Item> + use<S>>, Problem>
    where
        S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
    {
        let place = Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let detail = format!("too many streams: there are {STREAMS}; end one of them");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })?;
        Ok(Sse::new(events.inspect(move |_| {
            let _ = &place;
        })))
    }
}

/// The counters every second, as server-sent events.
#[utoipa::path(get, path = "/v1/counters/stream", operation_id = "counters_stream", responses(
    (status = 200, body = Counters, content_type = "text/event-stream", description = "Events, each with `data` as here"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many streams at a time"),
))]
pub async fn counters(
    State(source): Shared,
    Extension(streams): Extension<Streams>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let interval = time::interval(INTERVAL);
    streams.begin(stream::unfold((source, interval), async |(source, mut interval)| {
        interval.tick().await;
        // Numbers and names always make JSON.
        let event = Event::default().json_data(source.counters()).unwrap_or_default();
        Some((Ok(event), (source, interval)))
    }))
}

/// The latest events, then others as they come, as server-sent events.
#[utoipa::path(get, path = "/v1/events/stream", operation_id = "events_stream", params(Wanted), responses(
    (status = 200, body = Events, content_type = "text/event-stream", description = "Events, each with `data` as here"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many streams at a time"),
))]
pub async fn events(
    State(source): Shared,
    Extension(streams): Extension<Streams>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    streams.begin(follow(source, wanted))
}

/// The latest events, then others as they come, some at a time.
fn follow(source: Arc<dyn Source>, wanted: Wanted) -> impl Stream<Item = Result<Event, Infallible>> {
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
