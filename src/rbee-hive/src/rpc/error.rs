//! JSON-RPC error objects and whole error responses.

use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value, json};

use crate::params::Refusal;

/// The text was not JSON.
pub(crate) const PARSE: i32 = -32700;
/// It was JSON, but no request.
pub(crate) const INVALID_REQUEST: i32 = -32600;
/// A method failed in a way that no method should.
pub(crate) const INTERNAL: i32 = -32603;
/// Wrong parameters.
pub(crate) const INVALID_PARAMS: i32 = -32602;
/// What the hive refuses, or what failed.
pub(crate) const REFUSED: i32 = -32000;

/// A refusal as an error object. What only the operator should read is logged here.
pub(crate) fn from_refusal(refusal: &Refusal) -> ErrorObjectOwned {
    if let Refusal::Lifecycle(error) = refusal
        && let Some(detail) = &error.detail
    {
        tracing::warn!(kind = refusal.kind(), message = %error, detail, "a request was refused or failed");
    }
    let code = if refusal.is_params() { INVALID_PARAMS } else { REFUSED };
    ErrorObjectOwned::owned(code, refusal.to_string(), Some(refusal.data()))
}

/// A whole response with an error, for requests that never reach a method.
pub(crate) fn error_response(id: Value, error: (i32, &str), data: Option<Value>) -> Value {
    let (code, message) = error;
    let mut object = json!({"code": code, "message": message});
    if let (Some(data), Some(members)) = (data, object.as_object_mut()) {
        members.insert("data".into(), data);
    }
    json!({"jsonrpc": "2.0", "error": object, "id": id})
}
