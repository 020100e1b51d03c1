//! The jobs API: `POST /v1/jobs`, `GET` and `DELETE` on what it gives.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{Stream, unfold};
use serde_json::json;

use super::router::App;
use super::{answer, body};
use crate::jobs::{Job, Operation, Progress, start};
use crate::json;
use crate::params::Refusal;

/// Starts a job.
pub(super) async fn post(State(app): State<App>, request: Body) -> Response {
    let bytes = match body::read(request).await {
        Ok(bytes) => bytes,
        Err(response) => return *response,
    };
    let started = json::parse(&bytes)
        .map_err(|e| Refusal::params("body", e.to_string()))
        .and_then(|body| Operation::parse(body, &app.state.id))
        .and_then(|operation| start(&app.state, operation));
    match started {
        Ok(job) => Json(json!({"job_id": job.id(), "sse_url": format!("/v1/jobs/{}/stream", job.id())})).into_response(),
        Err(refusal) => answer::refused(&refusal),
    }
}

/// Tells a job from its first line to its end, then closes.
pub(super) async fn stream(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.state.jobs.get(&id) {
        Some(job) => Sse::new(events(job)).keep_alive(KeepAlive::default()).into_response(),
        None => unknown(&id),
    }
}

/// Asks a job to end; its stream then ends with `[CANCELLED]`. On an ended job this changes nothing.
pub(super) async fn delete(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.state.jobs.get(&id) {
        Some(job) => Json(json!({"job_id": job.id(), "cancelled": job.cancel()})).into_response(),
        None => unknown(&id),
    }
}

fn unknown(id: &str) -> Response {
    let id: String = id.chars().take(80).collect();
    answer::error(StatusCode::NOT_FOUND, "not_found", &format!("there is no job {id:?}"))
}

/// One event a line; the end is an event, too, and the last.
fn events(job: Arc<Job>) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold(Some((job, 0)), |place| async {
        let (job, at) = place?;
        Some(match job.next(at).await {
            Progress::Line(line) => (Ok(Event::default().data(line)), Some((job, at + 1))),
            Progress::End(end) => (Ok(Event::default().data(end.to_string().replace(['\n', '\r'], " "))), None),
        })
    })
}
