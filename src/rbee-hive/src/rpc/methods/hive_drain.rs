//! `hive_drain`

use serde_json::json;

use super::super::method::{Method, WhenClientLeaves};
use super::NOTHING;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "hive_drain",
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
