//! `worker_wait`

use std::time::Duration;

use super::super::method::{Method, WhenClientLeaves};
use super::{NATURAL, WORKER_ID, answer};
use crate::params::{Param, parse_wait_for};

const FOR: &str = r#"{"enum":["ready","exit"],"default":"exit"}"#;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_wait",
    summary: "Waits until a worker is ready or has ended",
    params: &[Param::required("worker_id", WORKER_ID), Param::optional("for", FOR), Param::optional("timeout_ms", NATURAL)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            let until = parse_wait_for(fields.take::<String>("for")?.as_deref().unwrap_or("exit"))?;
            let timeout = fields.take("timeout_ms")?.map(Duration::from_millis);
            answer(&state.workers.wait(&id, until, timeout).await?)
        })
    },
};
