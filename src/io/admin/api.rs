//! The routes, and their description (OpenAPI 3.1).

#![expect(
    unused_qualifications,
    reason = "utoipa's attribute qualifies the types of parameters"
)]

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi};

use super::guard::{self, Guard};
use super::operator::{Operator, Unable};
use super::problem::Refusal;
use super::server::Token;
use super::view::{
    CallPage, CallQuery, CallStory, DevicePage, DeviceQuery, DeviceStory, EnteredDevice,
    EnteredPage, History, Live, NewDevice, Problem, PushReport, Readiness, Summary, Version,
};
use super::{events, page, watch};

/// Nothing that is asked here has a body of that size.
const LARGEST_BODY: usize = 64 * 1024;
/// Entries of a page when nobody says how many, and at most.
const PAGE: u16 = 100;
const LARGEST_PAGE: u16 = 500;
/// What Prometheus asks for, and what it reads beside it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) type Gateway = State<Arc<dyn Operator>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rouse",
        description = "What the gateway knows of calls and devices, and what an operator may ask of it.",
        license(name = "MIT")
    ),
    paths(
        calls, call, devices, add_device, entered, device, remove_device, push, drain, reload, summary, history, follow, watch::capture, watch::watched, watch::watch, watch::unwatch,
        version, live,
        ready, metrics
    ),
    components(schemas(Live)),
    modifiers(&Bearer),
    security(("token" = []))
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("the content of [admin] token_file"))
            .build();
        let parts = description.components.get_or_insert_default();
        parts.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The API's description, as `docs/openapi.json` has it.
#[must_use]
pub fn openapi() -> String {
    let mut text = Description::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// All routes.
pub(super) fn router(operator: Arc<dyn Operator>, token: Option<Token>) -> Router {
    let guard = Arc::new(Guard::new(token));
    Router::new()
        .route("/api/calls", get(calls))
        .route("/api/calls/{id}", get(call))
        .route("/api/devices", get(devices).post(add_device))
        .route("/api/entered", get(entered))
        .route("/api/devices/{id}", get(device).delete(remove_device))
        .route("/api/push/{agent}", post(push))
        .route("/api/drain", post(drain))
        .route("/api/reload", post(reload))
        .route("/api/summary", get(summary))
        .route("/api/history", get(history))
        .route("/api/events", get(follow))
        .route("/api/capture", get(watch::capture))
        .route("/api/debug", get(watch::watched))
        .route(
            "/api/debug/{agent}",
            put(watch::watch).delete(watch::unwatch),
        )
        .route("/api/version", get(version))
        .route("/api/openapi.json", get(description))
        .route("/healthz", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(page::file)
        .method_not_allowed_fallback(|| async { Refusal::Method })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(guard, guard::watch))
        .with_state(operator)
}

/// Lists the last calls, the latest first.
#[utoipa::path(
    get, path = "/api/calls", tag = "calls", params(CallQuery),
    responses(
        (status = 200, body = CallPage),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn calls(
    State(gateway): Gateway,
    query: Result<Query<CallQuery>, QueryRejection>,
) -> Result<Json<CallPage>, Refusal> {
    let Query(query) = query.map_err(bad_query)?;
    let limit = limit(query.limit)?;
    let before = match &query.before {
        Some(id) => number(id).ok_or_else(|| Refusal::Bad("`before` is no call's name".into()))?,
        None => u64::MAX,
    };
    let calls = gateway.calls(&query, before, limit);
    let is_full = calls.len() >= limit;
    let next = calls.last().filter(|_| is_full).map(|call| call.id.clone());
    Ok(Json(CallPage { calls, next }))
}

/// Tells one call, step by step.
#[utoipa::path(
    get, path = "/api/calls/{id}", tag = "calls",
    params(("id" = String, Path, description = "the call's name here", pattern = "^[0-9a-f]{1,16}$")),
    responses(
        (status = 200, body = CallStory),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn call(
    State(gateway): Gateway,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<CallStory>, Refusal> {
    let id = segment(id)?;
    let id = number(&id).ok_or(Refusal::NotFound("no call has that name"))?;
    let call = gateway.call(id);
    call.map(Json).ok_or(Refusal::NotFound(
        "that call is not remembered, or never was",
    ))
}

/// Lists the registered devices.
#[utoipa::path(
    get, path = "/api/devices", tag = "devices", params(DeviceQuery),
    responses(
        (status = 200, body = DevicePage),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn devices(
    State(gateway): Gateway,
    query: Result<Query<DeviceQuery>, QueryRejection>,
) -> Result<Json<DevicePage>, Refusal> {
    let Query(mut query) = query.map_err(bad_query)?;
    let limit = limit(query.limit)?;
    query.limit = u16::try_from(limit).ok();
    if query.after.as_deref().is_some_and(|id| !is_device(id)) {
        return Err(Refusal::Bad("`after` is no device's name".into()));
    }
    Ok(Json(gateway.devices(query).await))
}

/// Enters a device, as `[[device]]` of the configuration does: for an app that does not say itself
/// how it is woken. It holds from the device's next registration on, and after a restart. What was
/// entered before for the same agent, instance and User-Agent gives way to it.
#[utoipa::path(
    post, path = "/api/devices", tag = "devices", request_body = NewDevice,
    responses(
        (status = 200, body = EnteredDevice, description = "it took the place of another"),
        (status = 201, body = EnteredDevice, description = "it is entered"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 413, body = Problem, content_type = "application/problem+json"),
        (status = 415, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")
    )
)]
async fn add_device(
    State(gateway): Gateway,
    body: Result<Json<NewDevice>, JsonRejection>,
) -> Result<(StatusCode, Json<EnteredDevice>), Refusal> {
    let Json(device) = body.map_err(|rejection| bad_body(&rejection))?;
    check(&device)?;
    let (entered, is_new) = gateway.enter(device).await.map_err(unable)?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(entered)))
}

/// Which devices that were entered.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EnteredQuery {
    /// Only of agents whose name contains this.
    #[serde(default)]
    agent: Option<String>,
}

/// Lists the devices that were entered.
#[utoipa::path(
    get, path = "/api/entered", tag = "devices", params(EnteredQuery),
    responses(
        (status = 200, body = EnteredPage),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn entered(
    State(gateway): Gateway,
    query: Result<Query<EnteredQuery>, QueryRejection>,
) -> Result<Json<EnteredPage>, Refusal> {
    let Query(query) = query.map_err(bad_query)?;
    let devices = gateway.entered(query.agent.as_deref());
    Ok(Json(EnteredPage { devices }))
}

/// Tells what one device is and what it did lately.
#[utoipa::path(
    get, path = "/api/devices/{id}", tag = "devices",
    params(("id" = String, Path, description = "the device's name here", pattern = "^[0-9a-f]{16}-[0-9a-f]{16}$")),
    responses(
        (status = 200, body = DeviceStory),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn device(
    State(gateway): Gateway,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<DeviceStory>, Refusal> {
    let id = segment(id)?;
    let device = gateway.device(&id).await;
    device
        .map(Json)
        .ok_or(Refusal::NotFound("no device has that name"))
}

/// Takes a device out: it is not called any more until it registers again. One that was entered is
/// removed: it is not woken any more from its next registration on.
#[utoipa::path(
    delete, path = "/api/devices/{id}", tag = "devices",
    params(("id" = String, Path, description = "the device's name here, or that of one that was entered", pattern = "^[0-9a-f]{16}(-[0-9a-f]{16})?$")),
    responses(
        (status = 204, description = "it is gone"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn remove_device(
    State(gateway): Gateway,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    let id = segment(id)?;
    let is_gone = match number(&id).filter(|_| id.len() == 16) {
        Some(name) => gateway.withdraw(name).await.map_err(unable)?,
        None => gateway.remove_device(&id).await,
    };
    if is_gone {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Refusal::NotFound("no device has that name"))
    }
}

/// Pushes each of an agent's devices for a test, and tells what the push services say.
#[utoipa::path(
    post, path = "/api/push/{agent}", tag = "devices",
    params(("agent" = String, Path, description = "USER, or USER@DOMAIN")),
    responses(
        (status = 200, body = PushReport),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn push(
    State(gateway): Gateway,
    agent: Result<Path<String>, PathRejection>,
) -> Result<Json<PushReport>, Refusal> {
    let agent = segment(agent)?;
    let report = gateway.push(&agent).await;
    report
        .map(Json)
        .ok_or(Refusal::NotFound("no such agent has registered a device"))
}

/// Refuses new calls from now on: before the gateway is stopped.
#[utoipa::path(
    post, path = "/api/drain", tag = "gateway",
    responses(
        (status = 202, description = "new calls are refused"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn drain(State(gateway): Gateway) -> StatusCode {
    gateway.drain().await;
    StatusCode::ACCEPTED
}

/// Has the configuration read again, as SIGHUP does: the log says what came of it.
#[utoipa::path(
    post, path = "/api/reload", tag = "gateway",
    responses(
        (status = 202, description = "it will be read"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn reload(State(gateway): Gateway) -> StatusCode {
    gateway.reload();
    StatusCode::ACCEPTED
}

/// Tells the counters at a glance.
#[utoipa::path(
    get, path = "/api/summary", tag = "gateway",
    responses(
        (status = 200, body = Summary),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn summary(State(gateway): Gateway) -> Json<Summary> {
    Json(gateway.summary())
}

/// Tells the counters of the last quarter of an hour, for charts.
#[utoipa::path(
    get, path = "/api/history", tag = "gateway",
    responses(
        (status = 200, body = History),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn history(State(gateway): Gateway) -> Json<History> {
    Json(gateway.history())
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Follow {
    /// Only of agents whose name contains this.
    #[serde(default)]
    agent: Option<String>,
}

/// Tells what happens from now on, as server-sent events: `call` and `device`, each with a `Live`
/// as its data. One who is too slow gets `lost`, and the stream ends.
#[utoipa::path(
    get, path = "/api/events", tag = "gateway", params(Follow),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")
    )
)]
async fn follow(
    State(gateway): Gateway,
    query: Result<Query<Follow>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query.map_err(bad_query)?;
    let Some(events) = gateway.follow() else {
        return Err(Refusal::Unavailable(
            "enough others follow the events already",
        ));
    };
    Ok(events::answer(gateway, events, query.agent))
}

/// Tells the version.
#[utoipa::path(
    get, path = "/api/version", tag = "gateway",
    responses(
        (status = 200, body = Version),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn version() -> Json<Version> {
    Json(Version {
        name: "rouse".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi()).into_response()
}

/// Answers as long as the process does.
#[utoipa::path(
    get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, body = String, content_type = "text/plain"))
)]
async fn live() -> &'static str {
    "ok\n"
}

/// Tells whether calls should be sent here, and why not.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness))
)]
async fn ready(State(gateway): Gateway) -> (StatusCode, Json<Readiness>) {
    let readiness = gateway.readiness().await;
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

/// Tells all metrics, as OpenMetrics or, to whoever does not ask for that, as Prometheus's text.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, content(
            (String = "application/openmetrics-text"),
            (String = "text/plain")
        )),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
async fn metrics(State(gateway): Gateway, headers: HeaderMap) -> Response {
    let text = gateway.metrics();
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        let kind = HeaderValue::from_static(OPENMETRICS);
        return ([(header::CONTENT_TYPE, kind)], text).into_response();
    }
    let kind = HeaderValue::from_static(PLAIN);
    ([(header::CONTENT_TYPE, kind)], plain(&text)).into_response()
}

/// The older text: there a counter is described under the name that its samples have, and nothing
/// says that this was all.
fn plain(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
            continue;
        }
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, told)) = help.take().filter(|(of, _)| *of == name) {
                text.push_str(&format!("# HELP {name}{suffix} {told}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            continue;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Whether it is USER or USER@DOMAIN.
pub(super) fn is_agent(agent: &str) -> bool {
    let is_part = |part: &str| {
        let is_text = |byte: u8| matches!(byte, b'!'..=b'~') && byte != b'@';
        !part.is_empty() && part.bytes().all(is_text)
    };
    let is_named = match agent.split_once('@') {
        Some((user, domain)) => is_part(user) && is_part(domain),
        None => is_part(agent),
    };
    is_named && agent.len() <= 256
}

/// What the schema says of a device's texts.
fn check(device: &NewDevice) -> Result<(), Refusal> {
    if !is_agent(&device.agent) {
        return Err(Refusal::Bad("`agent` is USER, or USER@DOMAIN".into()));
    }
    let texts = [
        ("provider", Some(&device.provider), 1, 64),
        ("param", device.param.as_ref(), 0, 256),
        ("prid", Some(&device.prid), 1, 4096),
        ("instance", device.instance.as_ref(), 1, 256),
        ("user_agent", device.user_agent.as_ref(), 1, 256),
    ];
    for (name, text, least, most) in texts {
        let Some(text) = text else { continue };
        if !(least..=most).contains(&text.chars().count()) {
            let wrong = format!("`{name}` has from {least} to {most} characters");
            return Err(Refusal::Bad(wrong));
        }
    }
    Ok(())
}

fn unable(why: Unable) -> Refusal {
    match why {
        Unable::Senseless(why) => Refusal::Conflict(why),
        Unable::NotDurable => Refusal::Unavailable("the store cannot write"),
    }
}

/// What is wrong with a body; its text is not repeated, for a token may be in it.
fn bad_body(rejection: &JsonRejection) -> Refusal {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Refusal::NoJson,
        _ => Refusal::Bad("the body is not the JSON that the API has for this".into()),
    }
}

pub(super) fn bad_query(rejection: QueryRejection) -> Refusal {
    Refusal::Bad(rejection.body_text())
}

pub(super) fn segment(path: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    let Path(segment) = path.map_err(|rejection| Refusal::Bad(rejection.body_text()))?;
    Ok(segment)
}

fn limit(asked: Option<u16>) -> Result<usize, Refusal> {
    let limit = asked.unwrap_or(PAGE);
    if (1..=LARGEST_PAGE).contains(&limit) {
        return Ok(usize::from(limit));
    }
    Err(Refusal::Bad(format!("`limit` is from 1 to {LARGEST_PAGE}")))
}

/// Whether it can be a device's name.
fn is_device(id: &str) -> bool {
    let is_number = |part: &str| part.len() == 16 && part.bytes().all(|b| b.is_ascii_hexdigit());
    id.split_once('-')
        .is_some_and(|(agent, device)| is_number(agent) && is_number(device))
}

/// Reads a call's name.
fn number(id: &str) -> Option<u64> {
    let is_one = (1..=16).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_one.then(|| u64::from_str_radix(id, 16).ok()).flatten()
}
