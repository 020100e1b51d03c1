//! The client: one HTTP/1.1 request a call, over a Unix socket or TCP.
//!
//! Owns endpoints, deadlines and the bound on answers. Must never know what the methods mean.

mod endpoint;
mod error;
mod events;
mod methods;
mod transport;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::ClientError;
pub use events::EventStream;
pub use transport::MAX_ANSWER_BYTES;

use super::RpcError;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take that nobody has to wait for.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a call may take until its answer is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// At most this long.
    Within(Duration),
    /// As long as the hive takes: for methods that wait by their nature.
    None,
}

impl Deadline {
    /// The default for `method`: none for those that wait for a worker, 30 s for all others.
    pub fn for_method(method: &str) -> Self {
        match method {
            "worker_spawn" | "worker_wait" | "worker_stop" | "worker_delete" | "worker_thaw" => Self::None,
            _ => Self::Within(ANSWER),
        }
    }
}

/// A client of one hive. Each call makes its own connection, so calls may run side by side.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    connect: Duration,
    next_id: AtomicU64,
}

impl Client {
    /// A client of the hive at `endpoint`. Connects only when called.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, connect: CONNECT, next_id: AtomicU64::new(1) }
    }

    /// The same with another bound on making a connection (5 s by default).
    pub fn connect_within(self, connect: Duration) -> Self {
        Self { connect, ..self }
    }

    /// Where the hive is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether anything accepts connections there.
    ///
    /// # Errors
    /// [`ClientError::NoHive`], or [`ClientError::Timeout`] where the connection is not made in time.
    pub async fn probe(&self) -> Result<(), ClientError> {
        transport::connect(&self.endpoint, self.connect).await.map(drop)
    }

    /// Calls `method` under its usual deadline. `params` is an object, an array, or null for none.
    ///
    /// # Errors
    /// [`ClientError::Rpc`] for what the hive answers with an error; the other variants where there was no answer.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, ClientError> {
        self.call_within(Deadline::for_method(method), method, params).await
    }

    /// Calls `method` under a deadline of the caller's.
    ///
    /// # Errors
    /// As for [`Client::call`].
    pub async fn call_within(&self, deadline: Deadline, method: &str, params: Value) -> Result<Value, ClientError> {
        let Deadline::Within(limit) = deadline else { return self.exchange(method, params).await };
        match tokio::time::timeout(limit, self.exchange(method, params)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout { act: format!("answer {method}"), endpoint: self.endpoint.to_string(), limit }),
        }
    }

    /// Calls `method` and reads the answer as `T`.
    ///
    /// # Errors
    /// As for [`Client::call`]; [`ClientError::Protocol`] where the answer has another shape.
    pub async fn request<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, ClientError> {
        let answer = self.call(method, params).await?;
        serde_json::from_value(answer).map_err(|e| self.protocol(format!("read the answer of {method}")).because(e))
    }

    async fn exchange(&self, method: &str, params: Value) -> Result<Value, ClientError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut request = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if !params.is_null() {
            request["params"] = params;
        }
        let stream = transport::connect(&self.endpoint, self.connect).await?;
        let answer = transport::post(&self.endpoint, stream, request.to_string()).await?;
        // By way of `Value`, which takes the last of two members of one name where a struct would refuse both.
        let parsed: Result<Value, _> = serde_json::from_slice(&answer.body);
        let mut body = match parsed {
            Ok(Value::Object(body)) => body,
            _ if !answer.status.is_success() => return Err(self.protocol(format!("HTTP status {}", answer.status))),
            Ok(_) => return Err(self.protocol("the answer is no JSON-RPC response".into())),
            Err(e) => return Err(self.protocol("read the answer as JSON".into()).because(e)),
        };
        if let Some(error) = body.remove("error") {
            return Err(ClientError::Rpc(Box::new(self.rpc_error(error)?)));
        }
        if !answer.status.is_success() {
            return Err(self.protocol(format!("HTTP status {}", answer.status)));
        }
        if body.get("id") != Some(&json!(id)) {
            return Err(self.protocol(format!("the answer is to another request than {id}")));
        }
        body.remove("result").ok_or_else(|| self.protocol("the answer has neither result nor error".into()))
    }

    /// Reads JSON-RPC's error objects and the plain `{"kind", "message"}` that the guards in front of it give.
    fn rpc_error(&self, mut error: Value) -> Result<RpcError, ClientError> {
        if let Some(members) = error.as_object_mut()
            && !members.contains_key("code")
        {
            let kind = members.get("kind").cloned().unwrap_or_default();
            members.insert("code".into(), json!(-32000));
            members.insert("data".into(), json!({"kind": kind}));
        }
        serde_json::from_value(error).map_err(|e| self.protocol("read the error".into()).because(e))
    }

    fn protocol(&self, problem: String) -> ClientError {
        ClientError::Protocol { endpoint: self.endpoint.to_string(), problem, source: None }
    }
}
