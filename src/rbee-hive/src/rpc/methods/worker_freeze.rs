//! `worker_freeze`

use super::super::method::{Method, WhenClientLeaves};
use super::{WORKER_ID, answer};
use crate::params::Param;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_freeze",
    summary: "Lets a worker's processes stand still until worker_thaw; connections to it wait meanwhile",
    params: &[Param::required("worker_id", WORKER_ID)],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            answer(&state.workers.freeze(&id).await?)
        })
    },
};
