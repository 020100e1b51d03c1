//! `worker_logs`

use super::super::method::{Method, WhenClientLeaves};
use super::{NATURAL, TIME, WORKER_ID, answer};
use crate::params::{Param, Refusal};

/// Lines given where `tail` is absent.
const DEFAULT_TAIL: usize = 200;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_logs",
    summary: "The last lines of a worker's output, oldest first",
    params: &[Param::required("worker_id", WORKER_ID), Param::optional("tail", NATURAL), Param::optional("since", TIME)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            let tail = fields.take("tail")?.unwrap_or(DEFAULT_TAIL);
            let since: Option<String> = fields.take("since")?;
            if let Some(Err(error)) = since.as_ref().map(|s| s.parse::<jiff::Timestamp>()) {
                return Err(Refusal::params("since", error.to_string()));
            }
            answer(&state.workers.logs(&id, tail, since).await?)
        })
    },
};
