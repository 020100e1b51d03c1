//! `worker_list`

use rbee_hive_worker_lifecycle::WorkerFilter;

use super::super::method::{Method, WhenClientLeaves};
use super::answer;
use crate::params::Param;

const STATE: &str = r#"{"enum":["starting","ready","unhealthy","frozen","restarting","stopping","stopped","failed"]}"#;
const LABELS: &str = r#"{"type":"object","additionalProperties":{"type":"string"}}"#;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_list",
    summary: "All workers, or those of a state or with labels",
    params: &[Param::optional("state", STATE), Param::optional("labels", LABELS)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let filter = WorkerFilter { state: fields.take("state")?, labels: fields.take("labels")?.unwrap_or_default() };
            answer(&state.workers.list(&filter).await)
        })
    },
};
