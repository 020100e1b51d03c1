//! `worker_delete`

use super::super::method::{Method, WhenClientLeaves};
use super::{WORKER_ID, answer};
use crate::params::Param;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_delete",
    summary: "Stops a worker if need be and takes it off the list",
    params: &[Param::required("worker_id", WORKER_ID)],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            answer(&state.workers.delete(&id).await?)
        })
    },
};
