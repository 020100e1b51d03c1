//! Error bodies of everything that is not JSON-RPC: `{"error": {"kind": …, "message": …}}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::params::Refusal;

/// An error response.
pub(super) fn error(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"kind": kind, "message": message}}))).into_response()
}

/// A refusal as a 400 (or 503 for want of room), with what else is known of it.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let status = match refusal.kind().as_str() {
        "at_capacity" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut members = refusal.data();
    members["message"] = Value::String(refusal.to_string());
    (status, Json(json!({"error": members}))).into_response()
}
