//! `worker_explain`

use super::super::method::{Method, WhenClientLeaves};
use super::{WORKER_ID, answer};
use crate::access::Role;
use crate::params::Param;

/// The method. `{worker_id, policy, source, settings, limits: [{limit, value, origin, from}], not_in_force, incidents, lives: [{started_at,
/// ready_at, ended_at, verdict}], exposure, story}`; `story` is `{state, verdict, summary, evidence: [{figure, value, text}], remedies, last_probe,
/// resources, timeline, log_tail, …}`; `origin` is `policy`, `request`, `device_lease` or `unknown`; `source`, `settings` and `exposure` are
/// `null` where the policy has changed since and was not kept.
pub(super) const METHOD: Method = Method {
    name: "worker_explain",
    role: Role::Observe,
    summary: "What happened to a worker, why it ended and what to change; and why it may what it may",
    params: &[Param::required("worker_id", WORKER_ID)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            answer(&state.workers.explain(&id).await?)
        })
    },
};
