//! `policy_score`

use rbee_hive_policy::exposure::Exposure;
use rbee_hive_worker_lifecycle::PolicyExplanation;
use serde_json::json;

use super::super::method::{Method, WhenClientLeaves};
use crate::params::Param;

const NAME: &str = r#"{"type":"string"}"#;

/// The method. `{name, source, score, rating, points: [{setting, value, weight, adds, saves, not_in_force, remedy}]}`.
pub(super) const METHOD: Method = Method {
    name: "policy_score",
    summary: "How open a policy leaves its workers, 0.0 (tight) to 10.0 (open), point by point",
    params: &[Param::required("name", NAME)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let name: String = fields.need("name")?;
            let PolicyExplanation { name, source, settings: _, exposure } = state.workers.policy_explain(&name).await?;
            let Exposure { score, rating, points } = exposure;
            Ok(json!({"name": name, "source": source, "score": score, "rating": rating, "points": points}))
        })
    },
};
