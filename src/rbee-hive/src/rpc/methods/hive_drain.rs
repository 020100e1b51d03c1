//! `hive_drain`

use serde_json::json;

use super::super::method::{Method, WhenClientLeaves};
use super::NOTHING;
use crate::access::Role;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "hive_drain",
    role: Role::Admin,
    summary: "Refuses new workers from now on",
    params: NOTHING,
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, _| {
        Box::pin(async move {
            state.workers.drain();
            Ok(json!({"draining": true}))
        })
    },
};
