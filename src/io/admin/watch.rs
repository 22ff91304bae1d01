//! The routes of those who look at single messages: captures, and agents in the log.

#![expect(
    unused_qualifications,
    reason = "utoipa's attribute qualifies the types of parameters"
)]

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::api::{Gateway, bad_query, is_agent, segment};
use super::events;
use super::problem::Refusal;
use super::view::{Problem, Watched, WatchedPage};

/// Whose messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    /// The agent's user name: messages that name it in From, To or their Request-URI.
    #[param(min_length = 1)]
    agent: String,
}

/// Tells an agent's messages from now on as a capture file (pcapng), until whoever asks goes.
/// Credentials and push tokens are taken out of them.
#[utoipa::path(
    get, path = "/api/capture", tag = "gateway", params(Whose),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/x-pcapng"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn capture(
    State(gateway): Gateway,
    query: Result<Query<Whose>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query.map_err(bad_query)?;
    if query.agent.is_empty() {
        return Err(Refusal::Bad("`agent` is USER, or USER@DOMAIN".into()));
    }
    let packets = gateway.capture(&query.agent);
    let packets = packets.ok_or(Refusal::Unavailable("enough others capture already"))?;
    Ok(events::file(packets))
}

/// Lists the agents whose messages and steps are logged.
#[utoipa::path(
    get, path = "/api/debug", tag = "gateway",
    responses(
        (status = 200, body = WatchedPage),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn watched(State(gateway): Gateway) -> Json<WatchedPage> {
    let agents = gateway.watched();
    Json(WatchedPage { agents })
}

/// For how long.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Minutes {
    /// Minutes, 10 if nothing is said.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1440)]
    minutes: Option<u16>,
}

/// Logs an agent's messages (`sip::wire`, without credentials and push tokens) and steps
/// (`rouse::watch`) at INFO for a while, whatever else is logged.
#[utoipa::path(
    put, path = "/api/debug/{agent}", tag = "gateway", params(("agent" = String, Path, description = "USER, or USER@DOMAIN", pattern = "^[!-.0-?A-~]+(@[!-.0-?A-~]+)?$"), Minutes),
    responses(
        (status = 200, body = Watched),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn watch(
    State(gateway): Gateway,
    agent: Result<Path<String>, PathRejection>,
    query: Result<Query<Minutes>, QueryRejection>,
) -> Result<Json<Watched>, Refusal> {
    let agent = segment(agent)?;
    let Query(query) = query.map_err(bad_query)?;
    let minutes = query.minutes.unwrap_or(10);
    if !(1..=1440).contains(&minutes) {
        return Err(Refusal::Bad("`minutes` is from 1 to 1440".into()));
    }
    if !is_agent(&agent) {
        return Err(Refusal::Bad("an agent is USER, or USER@DOMAIN".into()));
    }
    let watched = gateway.watch(&agent, minutes).map(Json);
    watched.ok_or_else(|| Refusal::Conflict("enough others are logged already".into()))
}

/// Logs an agent's messages and steps no more.
#[utoipa::path(
    delete, path = "/api/debug/{agent}", tag = "gateway", params(("agent" = String, Path, description = "USER, or USER@DOMAIN", pattern = "^[!-.0-?A-~]+(@[!-.0-?A-~]+)?$")),
    responses(
        (status = 204, description = "they are logged no more"),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn unwatch(
    State(gateway): Gateway,
    agent: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    if gateway.unwatch(&segment(agent)?) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Refusal::NotFound("that agent is not logged"))
    }
}
