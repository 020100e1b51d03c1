//! The routes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router, middleware};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{access, answer, events, guard, jobs, rpc, ws};
use crate::access::{AccessRules, Role};
use crate::hive::HiveState;
use crate::rpc::Rpc;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct App {
    pub(super) state: Arc<HiveState>,
    pub(super) rpc: Rpc,
    /// Streams of events and WebSockets; they stay for as long as their readers like.
    pub(super) streams: Arc<Semaphore>,
}

/// Most of them at a time.
const MAX_STREAMS: usize = 128;

/// The routes that are not for everybody, with the least role for each. `/rpc` asks again for its method, `/v1/jobs` for its operation.
fn closed() -> [(&'static str, Role, MethodRouter<App>); 6] {
    [
        ("/rpc", Role::Observe, post(rpc::post).get(ws::upgrade)),
        ("/v1/events", Role::Observe, get(events::stream)),
        ("/v1/capabilities", Role::Observe, get(capabilities)),
        ("/v1/jobs", Role::Observe, post(jobs::post)),
        ("/v1/jobs/{id}/stream", Role::Observe, get(jobs::stream)),
        ("/v1/jobs/{id}", Role::Operate, delete(jobs::delete)),
    ]
}

/// All routes, the same on TCP and on the Unix socket. `/health` is open to everybody who can connect.
pub(crate) fn router(state: Arc<HiveState>, rules: AccessRules) -> anyhow::Result<Router> {
    let app = App { rpc: Rpc::new(Arc::clone(&state))?, state, streams: Arc::new(Semaphore::new(MAX_STREAMS)) };
    let rules = Arc::new(rules);
    let guarded = closed().into_iter().fold(Router::new(), |routes, (path, role, handlers)| {
        let gate = access::Gate { rules: Arc::clone(&rules), role };
        routes.merge(Router::new().route(path, handlers).layer(middleware::from_fn_with_state(gate, access::check)))
    });
    Ok(guarded
        .route("/health", get(health))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(guard::check))
        .with_state(app))
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

async fn capabilities(State(app): State<App>) -> Json<Value> {
    Json(app.state.device_topology().await)
}

async fn not_found() -> Response {
    answer::error(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
}

pub(super) async fn wrong_method() -> Response {
    answer::error(StatusCode::METHOD_NOT_ALLOWED, "not_found", "this path does not take that method")
}
