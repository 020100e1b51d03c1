//! `worker_process_list`

use super::super::method::{Method, WhenClientLeaves};
use super::{WORKER_ID, answer};
use crate::params::Param;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_process_list",
    summary: "Every process of one worker or of all, as procfs shows it",
    params: &[Param::optional("worker_id", WORKER_ID)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.optional_worker_id("worker_id")?;
            answer(&state.workers.processes(id.as_ref()).await?)
        })
    },
};
