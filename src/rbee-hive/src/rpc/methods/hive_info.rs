//! `hive_info`

use rbee_hive_worker_lifecycle::WorkerFilter;
use serde_json::json;

use super::super::method::{Method, WhenClientLeaves};
use super::NOTHING;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "hive_info",
    summary: "The hive, its cgroups, and what this host can enforce",
    params: NOTHING,
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, _| {
        Box::pin(async move {
            Ok(json!({
                "id": state.id,
                "version": env!("CARGO_PKG_VERSION"),
                "pid": std::process::id(),
                "cgroup": {"mode": state.cgroup.mode, "root": state.cgroup.root, "notes": state.cgroup.notes},
                "host": state.host,
                "workers": state.workers.list(&WorkerFilter::default()).await.len(),
                "draining": state.workers.draining(),
            }))
        })
    },
};
