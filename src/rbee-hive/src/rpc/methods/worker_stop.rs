//! `worker_stop`

use super::super::method::{Method, WhenClientLeaves};
use super::{NATURAL, WORKER_ID, answer};
use crate::params::Param;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_stop",
    summary: "Stops a worker; answers when its cgroup is gone and its port is free",
    params: &[Param::required("worker_id", WORKER_ID), Param::optional("grace_ms", NATURAL)],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            let grace_ms = fields.take("grace_ms")?;
            answer(&state.workers.stop(&id, grace_ms).await?)
        })
    },
};
