//! `worker_thaw`

use super::super::method::{Method, WhenClientLeaves};
use super::{WORKER_ID, answer};
use crate::params::Param;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_thaw",
    summary: "Lets a frozen worker go on; answers when the worker does",
    params: &[Param::required("worker_id", WORKER_ID)],
    // The thaw is carried out in any case; only the wait for the worker's answer ends.
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            answer(&state.workers.thaw(&id).await?)
        })
    },
};
