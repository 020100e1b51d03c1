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

#[cfg(test)]
mod tests {
    use rbee_hive_sandbox::cgroup::unmeasured;
    use rbee_hive_sandbox::protocol::{CgroupFacts, CgroupMode, Resources, Stall};
    use rbee_hive_worker_lifecycle::WorkerHistory;
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    /// What a client makes of it, written again: what it does not know is gone.
    fn through<T: DeserializeOwned + Serialize>(value: &impl Serialize) -> (Value, Value) {
        let told = serde_json::to_value(value).unwrap();
        (serde_json::to_value(serde_json::from_value::<T>(told.clone()).unwrap()).unwrap(), told)
    }

    #[test]
    fn clients_know_every_figure_that_is_measured_and_why_others_are_not() {
        let mut resources = Resources::default();
        let facts = CgroupFacts { mode: CgroupMode::None, root: String::new(), mounts: Default::default(), notes: vec![] };
        for some in [None, Some(Stall::default())] {
            resources.pressure.cpu.some = some;
            let (read, told) = through::<rbee_hive_api::Resources>(&resources);
            assert_eq!(read, told);
        }
        let (read, told) = through::<Vec<rbee_hive_api::Unmeasured>>(&unmeasured(&resources, &facts));
        assert_eq!(read, told);
        let history = json!({"worker_id": "w", "interval_ms": 1000, "times": ["t"], "columns": {"a": [null], "b": [0.5]},
            "unmeasured": [{"figure": "a", "why": "b"}]});
        let history: WorkerHistory = serde_json::from_value(history).unwrap();
        let (read, told) = through::<rbee_hive_api::WorkerHistory>(&history);
        assert_eq!(read, told);
    }
}
