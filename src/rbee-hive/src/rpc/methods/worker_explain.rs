//! `worker_explain`

use super::super::method::{Method, WhenClientLeaves};
use super::{WORKER_ID, answer};
use crate::params::Param;

/// The method. `{worker_id, policy, source, settings, limits: [{limit, value, origin, from}], not_in_force, exposure}`; `origin` is `policy`,
/// `request`, `device_lease` or `unknown`; `source`, `settings` and `exposure` are `null` where the policy has changed since and was not kept.
pub(super) const METHOD: Method = Method {
    name: "worker_explain",
    summary: "Why a worker may what it may: grants and limits with their origin, what is not in force, its score",
    params: &[Param::required("worker_id", WORKER_ID)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            answer(&state.workers.explain(&id).await?)
        })
    },
};
