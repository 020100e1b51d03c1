//! The jobs API: `POST /v1/jobs`, `GET` and `DELETE` on what it gives.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::stream::{Stream, unfold};
use serde_json::json;

use super::access::Pass;
use super::router::App;
use super::{answer, body};
use crate::access::audit::Change;
use crate::access::{Identity, Role};
use crate::jobs::{Job, Operation, Progress, start};
use crate::json;
use crate::params::Refusal;

/// Starts a job.
pub(super) async fn post(State(app): State<App>, Extension(by): Extension<Identity>, request: Body) -> Response {
    let bytes = match body::read(request).await {
        Ok(bytes) => bytes,
        Err(response) => return *response,
    };
    let operation =
        json::parse(&bytes).map_err(|e| Refusal::params("body", e.to_string())).and_then(|body| Operation::parse(body, &app.state.id));
    let operation = match operation {
        Ok(operation) if by.role < operation.role() => {
            app.state.access.denials.tell(&by.from, &format!("{} is {}, the job needs {}", by.who, by.role, operation.role()));
            return needs(operation.role(), &by);
        }
        Ok(operation) => operation,
        Err(refusal) => return answer::refused(&refusal),
    };
    match start(&app.state, operation, by) {
        Ok(job) => Json(json!({"job_id": job.id(), "sse_url": format!("/v1/jobs/{}/stream", job.id())})).into_response(),
        Err(refusal) => answer::refused(&refusal),
    }
}

/// Tells a job from its first line to its end, then closes.
pub(super) async fn stream(State(app): State<App>, Extension(pass): Extension<Pass>, Path(id): Path<String>) -> Response {
    match app.state.jobs.get(&id) {
        Some(job) => Sse::new(pass.while_valid(events(job))).keep_alive(KeepAlive::default()).into_response(),
        None => unknown(&id),
    }
}

/// Asks a job to end; its stream then ends with `[CANCELLED]`. On an ended job this changes nothing.
pub(super) async fn delete(State(app): State<App>, Extension(by): Extension<Identity>, Path(id): Path<String>) -> Response {
    let change = Change::begin(&by, "job cancel", None);
    match app.state.jobs.get(&id) {
        Some(job) => {
            let cancelled = job.cancel();
            change.ended("ok");
            Json(json!({"job_id": job.id(), "cancelled": cancelled})).into_response()
        }
        None => {
            change.ended("not_found");
            unknown(&id)
        }
    }
}

fn needs(role: Role, by: &Identity) -> Response {
    answer::error(StatusCode::FORBIDDEN, "forbidden", &format!("this operation needs the role {role}, and the caller has {}", by.role))
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
