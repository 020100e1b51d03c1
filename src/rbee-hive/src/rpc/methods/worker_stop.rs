//! `worker_stop`

use super::super::method::{Method, WhenClientLeaves};
use super::{NATURAL, WORKER_ID, answer};
use crate::access::Role;
use crate::params::Param;

/// The method. Fails with `timeout` and the verdict `unkillable` where its processes do not die: 2 s after its init has said so, which is 10 s
/// after the kill, else 30 s after the grace. The worker is `stopping` then, keeps port and leases, and ends when they do.
pub(super) const METHOD: Method = Method {
    name: "worker_stop",
    role: Role::Operate,
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
