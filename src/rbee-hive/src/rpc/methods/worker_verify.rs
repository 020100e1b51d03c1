//! `worker_verify`

use super::super::method::{Method, WhenClientLeaves};
use super::{WORKER_ID, answer};
use crate::params::Param;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_verify",
    summary: "Reads a worker's sandbox back now, compares it with its plan, and answers with the worker and its drift",
    params: &[Param::required("worker_id", WORKER_ID)],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            answer(&state.workers.verify(&id).await?)
        })
    },
};
