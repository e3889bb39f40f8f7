//! The paths. What a path takes and answers is said at its function, once: the router and the document are both made of that.
//!
//! An endpoint is a function here with its `utoipa::path`, a line in [`all`], and a method of [`Source`].

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Semaphore;
use utoipa::{
    PartialSchema as _, ToSchema as _,
    openapi::{ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    metrics::{self, Format},
    object::Object,
    policies::{Applied, Apply, History, Rollback},
    source::Source,
    streams::{self, Streams},
    types::{
        self, Admit, AdmittedClient, Clients, Counters, Events, Expel, Names, Problem, Resolve, Resolved, Status, YEAR,
    },
};
use crate::{
    clients::{Client, NotAClient},
    dns::Name,
    policy::Bundle,
};

/// The controller, as handlers have it.
pub type Shared = State<Arc<dyn Source>>;

/// Questions to resolvers at a time, for as long as these take to answer; the other places of a listener are for what is quick.
const QUESTIONS: usize = 8;

/// The longest time in which a policy is confirmed, seconds.
const DAY: u32 = 24 * 60 * 60;

/// All paths, for those who may do everything.
pub fn all() -> OpenApiRouter<Arc<dyn Source>> {
    read_only()
        .routes(routes!(names))
        .routes(routes!(resolve))
        .routes(routes!(events))
        .routes(routes!(streams::events))
        .routes(routes!(policy))
        .routes(routes!(history))
        .routes(routes!(apply))
        .routes(routes!(confirm))
        .routes(routes!(roll_back))
        .routes(routes!(clients))
        .routes(routes!(admit))
        .routes(routes!(expel))
        .routes(routes!(detach))
        // Bounded where requests are read.
        .layer(DefaultBodyLimit::disable())
        .layer(Extension(Questions(Arc::new(Semaphore::new(QUESTIONS)))))
}

/// Those that change nothing and name no client, nor what clients asked for.
pub fn read_only() -> OpenApiRouter<Arc<dyn Source>> {
    OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info()).build())
        .routes(routes!(status))
        .routes(routes!(counters))
        .routes(routes!(streams::counters))
        .routes(routes!(exposition))
        .routes(routes!(openapi))
}

/// The document of paths.
pub fn document(paths: OpenApiRouter<Arc<dyn Source>>) -> OpenApi {
    finish(paths).1
}

/// What serves paths, problems included.
pub fn router(paths: OpenApiRouter<Arc<dyn Source>>, source: Arc<dyn Source>) -> Router {
    let (router, document) = finish(paths);
    let known: Vec<&str> = document.paths.paths.keys().map(String::as_str).collect();
    let detail = format!("here are {}", known.join(", "));
    router
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, detail))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "see the header `allow` for what this path takes")
        })
        .layer(Extension(Streams::default()))
        .layer(Extension(Arc::new(document)))
        .with_state(source)
}

/// Says of all operations what need not be said at each.
fn finish(paths: OpenApiRouter<Arc<dyn Source>>) -> (Router<Arc<dyn Source>>, OpenApi) {
    let (router, mut document) = paths.split_for_parts();
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    let response = ResponseBuilder::new()
        .description("A problem (RFC 9457): the request cannot be read or is too large, or something has failed")
        .content("application/problem+json", problem)
        .build();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            if let Some(RefOr::T(answer)) = responses.get_mut("200")
                && answer.description.is_empty()
            {
                answer.description = operation.summary.clone().unwrap_or_default();
            }
            responses.insert("default".into(), response.clone().into());
        }
    }
    if let Some(components) = &mut document.components {
        components.schemas.insert(Problem::name().into(), Problem::schema());
    }
    (router, document)
}

fn info() -> utoipa::openapi::Info {
    InfoBuilder::new()
        .title("enforcer")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("What the running controller tells and does. `data` of a stream's events is JSON."))
        .build()
}

/// A body that is a JSON object, or what is wrong with it.
struct Sent<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Json(Object(body)) = Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// A query, or what is wrong with it.
#[derive(FromRequestParts)]
#[from_request(via(Query), rejection(Problem))]
pub struct Asked<T>(pub T);

/// Where it is attached and how, its policy, and what an operator should look at.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
async fn status(State(source): Shared) -> Json<Status> {
    Json(source.status())
}

/// Packets and bytes by rule and service.
#[utoipa::path(get, path = "/v1/counters", responses((status = 200, body = Counters)))]
async fn counters(State(source): Shared) -> Json<Counters> {
    Json(source.counters())
}

/// Names' addresses, and for how long they count.
#[utoipa::path(get, path = "/v1/names", responses((status = 200, body = Names)))]
async fn names(State(source): Shared) -> Json<Names> {
    Json(source.names())
}

/// Which events somebody asks for.
#[derive(Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Those of a service only, such as `apple/apns`.
    service: Option<String>,
}

impl Wanted {
    /// Whether an event is one of them.
    pub fn takes(&self, event: &types::Event) -> bool {
        self.service.is_none() || event.service == self.service
    }
}

/// The latest packets that were denied, or would have been, or that a rule logs.
#[utoipa::path(get, path = "/v1/events", params(Wanted), responses((status = 200, body = Events)))]
async fn events(State(source): Shared, Asked(wanted): Asked<Wanted>) -> Json<Events> {
    let (mut events, _) = source.events();
    events.retain(|event| wanted.takes(event));
    Json(Events { events, lost: source.events_lost(), behind: 0 })
}

/// Places for questions to resolvers.
#[derive(Clone)]
struct Questions(Arc<Semaphore>);

/// Asks resolvers for a name now, and lets its addresses count if it is any service's.
#[utoipa::path(post, path = "/v1/resolve", request_body = Resolve, responses(
    (status = 200, body = Resolved),
    (status = 502, body = Problem, content_type = "application/problem+json", description = "No resolver has an answer"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many questions at a time"),
))]
async fn resolve(
    State(source): Shared,
    Extension(Questions(places)): Extension<Questions>,
    Sent(asked): Sent<Resolve>,
) -> Result<Json<Resolved>, Problem> {
    let name: Name = asked.name().ok_or_else(|| {
        let detail = format!(
            "{:?} is not a name: it is labels of at most 63 letters, digits, - and _ with dots between them, the last of which begins with a letter, \
             such as \"www.apple.com\"",
            asked.name
        );
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    let _place = places.try_acquire().map_err(|_| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{QUESTIONS} names are being resolved already: try again"),
        )
    })?;
    source.resolve(name).await.map(Json).map_err(|why| Problem::new(StatusCode::BAD_GATEWAY, why))
}

/// The policy in force, with all of its files.
#[utoipa::path(get, path = "/v1/policy", responses((status = 200, body = Bundle)))]
async fn policy(State(source): Shared) -> Json<Bundle> {
    Json(source.policy())
}

/// The policies that were in force lately.
#[utoipa::path(get, path = "/v1/history", responses((status = 200, body = History)))]
async fn history(State(source): Shared) -> Json<History> {
    Json(source.history())
}

/// Puts a policy in force. On any error, the one before is in force as it was.
#[utoipa::path(post, path = "/v1/apply", request_body = Apply, responses(
    (status = 200, body = Applied),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "It cannot be put in force: why is in the detail"),
))]
async fn apply(State(source): Shared, Sent(sent): Sent<Apply>) -> Result<Json<Applied>, Problem> {
    if let Some(seconds) = sent.confirm_seconds.filter(|seconds| !(1..=DAY).contains(seconds)) {
        let detail = format!("{seconds} seconds are no time to confirm a policy in: it is 1 to {DAY}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    source.apply(sent).await.map(Json).map_err(conflict)
}

/// Lets a policy stay that waits to be confirmed.
#[utoipa::path(post, path = "/v1/confirm", responses(
    (status = 200, body = Applied),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "None waits"),
))]
async fn confirm(State(source): Shared) -> Result<Json<Applied>, Problem> {
    source.confirm().await.map(Json).map_err(conflict)
}

/// Goes back to an earlier policy. On any error, the one in force stays.
#[utoipa::path(post, path = "/v1/rollback", request_body = Rollback, responses(
    (status = 200, body = Applied),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "There is none, or it cannot be put in force"),
))]
async fn roll_back(State(source): Shared, Sent(rollback): Sent<Rollback>) -> Result<Json<Applied>, Problem> {
    source.roll_back(rollback).await.map(Json).map_err(conflict)
}

/// The clients that the portal has admitted, and until when.
#[utoipa::path(get, path = "/v1/clients", responses((status = 200, body = Clients)))]
async fn clients(State(source): Shared) -> Json<Clients> {
    Json(source.clients())
}

/// Lets a client of the portal reach what the rules allow, for a time.
#[utoipa::path(post, path = "/v1/admit", request_body = Admit, responses(
    (status = 200, body = AdmittedClient),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "It is no client, or none of the portal; there is no portal, or no room"),
))]
async fn admit(State(source): Shared, Sent(sent): Sent<Admit>) -> Result<Json<AdmittedClient>, Problem> {
    let client = client(&sent.client)?;
    if !(1..=YEAR).contains(&sent.seconds) {
        let detail = format!("{} seconds are no time to admit a client for: it is 1 to {YEAR}", sent.seconds);
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    source.admit(client, sent.seconds).await.map(Json).map_err(conflict)
}

/// Takes a client's admission back, at once.
#[utoipa::path(post, path = "/v1/expel", request_body = Expel, responses(
    (status = 200, description = "It is not admitted any more"),
    (status = 409, body = Problem, content_type = "application/problem+json", description = "It was not admitted, or still would be as part of a prefix"),
))]
async fn expel(State(source): Shared, Sent(sent): Sent<Expel>) -> Result<Json<()>, Problem> {
    source.expel(client(&sent.client)?).await.map(Json).map_err(conflict)
}

fn client(word: &str) -> Result<Client, Problem> {
    word.parse().map_err(|error: NotAClient| conflict(error.to_string()))
}

/// Ends the controller, and takes all programs off their interfaces.
#[utoipa::path(post, path = "/v1/detach", responses((status = 202, description = "It is about to")))]
async fn detach(State(source): Shared) -> (StatusCode, Json<()>) {
    source.detach();
    (StatusCode::ACCEPTED, Json(()))
}

fn conflict(why: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, why)
}

/// All that is counted, for Prometheus: in its text format 0.0.4, or as OpenMetrics 1.0.0 if `accept` prefers that.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", responses(
    (status = 200, description = "The metrics", content((String = "text/plain"), (String = "application/openmetrics-text"))),
))]
async fn exposition(State(source): Shared, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::preferred(accept);
    ([(header::CONTENT_TYPE, format.content_type())], metrics::encode(source.status(), source.counters(), format))
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, body = Object)))]
async fn openapi(Extension(document): Extension<Arc<OpenApi>>) -> Json<OpenApi> {
    Json(OpenApi::clone(&document))
}
