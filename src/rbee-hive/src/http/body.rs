//! Reads a request's body, within bounds of size and time.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::StatusCode;
use axum::response::Response;
use http_body_util::LengthLimitError;

use super::answer;

/// Largest body, bytes.
pub(super) const MAX_BODY: usize = 1024 * 1024;
/// Longest time that a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole body; the error is the response (413, 408 or 400).
pub(super) async fn read(body: Body) -> Result<Bytes, Box<Response>> {
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(Box::new(answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_params",
            &format!("the body is longer than {MAX_BODY} bytes"),
        ))),
        Ok(Err(_)) => Err(Box::new(answer::error(StatusCode::BAD_REQUEST, "invalid_params", "the body could not be read"))),
        Err(_) => Err(Box::new(answer::error(StatusCode::REQUEST_TIMEOUT, "timeout", "the body took too long to arrive"))),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}
