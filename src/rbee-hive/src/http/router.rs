//! The routes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{AccessRules, access, answer, events, guard, jobs, rpc, ws};
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

/// All routes, the same on TCP and on the Unix socket. `/health` is open to everybody who can connect.
pub(crate) fn router(state: Arc<HiveState>, rules: AccessRules) -> anyhow::Result<Router> {
    let app = App { rpc: Rpc::new(Arc::clone(&state))?, state, streams: Arc::new(Semaphore::new(MAX_STREAMS)) };
    let closed = Router::new()
        .route("/rpc", post(rpc::post).get(ws::upgrade))
        .route("/v1/events", get(events::stream))
        .route("/v1/capabilities", get(capabilities))
        .route("/v1/jobs", post(jobs::post))
        .route("/v1/jobs/{id}/stream", get(jobs::stream))
        .route("/v1/jobs/{id}", axum::routing::delete(jobs::delete))
        .layer(middleware::from_fn_with_state(Arc::new(rules), access::check));
    Ok(closed
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
