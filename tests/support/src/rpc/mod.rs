//! Asking a hive over plain sockets, with nothing of the hive's own client in between.
//!
//! Owns: JSON-RPC and HTTP from a client's view. Must never know: methods and their parameters.

mod http;

use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

pub use http::{HttpReply, http_get, http_over_tcp, http_over_unix};

/// What a hive answered instead of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// The JSON-RPC code; 0 when no JSON-RPC answer came at all.
    pub code: i64,
    /// The sentence for people.
    pub message: String,
    /// `data`, or null.
    pub data: Value,
}

impl RpcError {
    /// `data.kind`, or an empty text.
    pub fn kind(&self) -> &str {
        self.data["kind"].as_str().unwrap_or_default()
    }

    fn transport(message: String) -> Self {
        Self { code: 0, message, data: Value::Null }
    }
}

impl Display for RpcError {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.code, self.message, self.data)
    }
}

impl std::error::Error for RpcError {}

/// Calls `method` over the Unix socket and waits up to `limit` (scaled) for the answer.
///
/// # Errors
/// The hive's error, or code 0 when the socket or the answer is broken.
pub fn rpc_over_unix(socket: &Path, call: (&str, Value), limit: Duration) -> Result<Value, RpcError> {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": call.0, "params": call.1});
    let reply = http_over_unix(socket, &http::post("/rpc", &request.to_string()), limit)
        .map_err(|error| RpcError::transport(format!("call {} over {}: {error}", call.0, socket.display())))?;
    let mut answer: Value = serde_json::from_slice(&reply.body).map_err(|error| {
        RpcError::transport(format!("read the answer to {} (HTTP {}): {error}: {:?}", call.0, reply.status, reply.text()))
    })?;
    match answer.get_mut("error").map(Value::take) {
        None | Some(Value::Null) => Ok(answer["result"].take()),
        Some(mut error) => Err(RpcError {
            code: error["code"].as_i64().unwrap_or_default(),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
            data: error["data"].take(),
        }),
    }
}
