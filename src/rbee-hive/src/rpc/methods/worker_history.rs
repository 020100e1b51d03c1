//! `worker_history`

use rbee_hive_worker_lifecycle::HistoryRange;

use super::super::method::{Method, WhenClientLeaves};
use super::{TIME, WORKER_ID, answer};
use crate::params::Param;

const POINTS: &str = r#"{"type":"integer","minimum":1}"#;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_history",
    summary: "A worker's figures of the last ten minutes, for plots: columns over common times, also after its end",
    params: &[Param::required("worker_id", WORKER_ID), Param::optional("since", TIME), Param::optional("max_points", POINTS)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            let range = HistoryRange { since: fields.take("since")?, max_points: fields.take("max_points")? };
            answer(&state.workers.history(&id, range).await?)
        })
    },
};
