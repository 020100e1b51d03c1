//! `POST /rpc`.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::body;
use super::router::App;
use crate::hive::{Caller, Connection};

/// Answers a JSON-RPC body; 204 without a body where there is nothing to say.
pub(super) async fn post(State(app): State<App>, connection: Option<Extension<Connection>>, request: Body) -> Response {
    let bytes = match body::read(request).await {
        Ok(bytes) => bytes,
        Err(response) => return *response,
    };
    let caller = Caller { connection: connection.map(|Extension(c)| c), gone: None };
    match caller.runs(app.rpc.handle(&bytes)).await {
        Some(response) => Json(response).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}
