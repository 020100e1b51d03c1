//! `worker_spawn`

use super::super::method::{Method, WhenClientLeaves};
use super::answer;
use crate::hive::Caller;
use crate::params::{SPAWN_PARAMS, parse_spawn};

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_spawn",
    summary: "Starts a worker; answers when it is ready, or has started",
    params: SPAWN_PARAMS,
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let mut params = parse_spawn(&mut fields, "worker_id")?;
            params.client = Caller::current().gone;
            answer(&state.workers.spawn(params).await?)
        })
    },
};
