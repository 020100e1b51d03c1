//! `worker_update`

use rbee_hive_sandbox::protocol::BelowUse;

use super::super::method::{Method, WhenClientLeaves};
use super::{WORKER_ID, answer};
use crate::params::{LIMITS, Param, parse_limits};

/// The method. Answers with the worker; all of the limits are changed, or none.
pub(super) const METHOD: Method = Method {
    name: "worker_update",
    summary: "Changes limits of a running worker; one below the present use is refused, or the kernel reclaims first",
    params: &[
        Param::required("worker_id", WORKER_ID),
        Param::required("limits", LIMITS),
        Param::optional("reclaim", r#"{"type":"boolean","default":false}"#),
    ],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            let limits = parse_limits(&mut fields)?;
            let reclaims = fields.take::<bool>("reclaim")?.unwrap_or_default();
            let below_use = if reclaims { BelowUse::Reclaim } else { BelowUse::Refuse };
            answer(&state.workers.update(&id, limits, below_use).await?)
        })
    },
};
