//! What tests ask of a worker of the mock program.

use serde_json::{Value, json};

use crate::{Hive, http_get, time_factor};

/// The port of a worker as `worker_spawn` tells it.
///
/// # Panics
/// When it has none.
#[track_caller]
pub fn port(worker: &Value) -> u16 {
    worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or_else(|| panic!("no port: {worker}"))
}

/// Its main process, by the host's number.
///
/// # Panics
/// When it has none.
#[track_caller]
pub fn pid(worker: &Value) -> i32 {
    worker["pid"].as_i64().and_then(|p| i32::try_from(p).ok()).unwrap_or_else(|| panic!("no pid: {worker}"))
}

/// What it says of itself on `/info`.
///
/// # Panics
/// When it does not answer, or not with JSON.
#[track_caller]
pub fn info(worker: &Value) -> Value {
    let reply = http_get(port(worker), "/info").unwrap_or_else(|e| panic!("the worker does not answer: {e}"));
    serde_json::from_str(&reply.text()).unwrap_or_else(|e| panic!("/info: {e}: {}", reply.text()))
}

impl Hive {
    /// Starts a mock worker under the policy `mock`; gives what it is once ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn mock(&self, id: &str, args: &[&str]) -> Value {
        self.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu", "args": args}))
    }

    /// A worker once it has ended, for which it has half a minute.
    ///
    /// # Panics
    /// When it has not ended by then.
    #[track_caller]
    pub fn wait_exit(&self, id: &str) -> Value {
        self.call("worker_wait", json!({"worker_id": id, "for": "exit", "timeout_ms": 30_000 * time_factor()}))
    }
}
