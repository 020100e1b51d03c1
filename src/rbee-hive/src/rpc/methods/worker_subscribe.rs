//! `worker_subscribe` and `worker_unsubscribe`: they belong to a WebSocket, whose session answers them before they come here.

use rbee_hive_worker_lifecycle::{ErrorKind, LifecycleError};

use super::super::method::{Answer, Method, WhenClientLeaves};
use super::{NATURAL, WORKER_ID};
use crate::params::{Fields, Param};

const KIND: &str = r#"{"enum":["state","verdict","limits","pressure","drift","device","lease","idle","cut"]}"#;

/// The method that begins one.
pub(in crate::rpc) const SUBSCRIBE: Method = Method {
    name: "worker_subscribe",
    summary: "Begins notifications worker_event of what happens to workers and devices; over WebSocket, in a message of its own",
    params: &[Param::optional("worker_id", WORKER_ID), Param::optional("kind", KIND), Param::optional("after", NATURAL)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |_, fields| Box::pin(async move { elsewhere(fields) }),
};

/// The method that ends one.
pub(in crate::rpc) const UNSUBSCRIBE: Method = Method {
    name: "worker_unsubscribe",
    summary: "Ends the notifications of a subscription; answers whether there was one",
    params: &[Param::required("subscription", NATURAL)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |_, fields| Box::pin(async move { elsewhere(fields) }),
};

fn elsewhere(_: Fields) -> Answer {
    let mut error = LifecycleError::new(ErrorKind::NotAllowedNow, "a subscription needs a WebSocket, and a message of its own there");
    error.hint = Some("connect to /rpc with Upgrade: websocket, or read GET /v1/events".into());
    Err(error.into())
}
