//! `policy_doctor`

use super::super::method::{Method, WhenClientLeaves};
use super::answer;
use crate::params::Param;

const NAME: &str = r#"{"type":"string"}"#;

/// The method. `{name, source, judged_as: {uid}, starts, refusal, settings: [{setting, value, state, why, refuses}], exposure}`; `state` is
/// `enforced`, `partly` or `not_in_force`.
pub(super) const METHOD: Method = Method {
    name: "policy_doctor",
    summary: "What of a policy this host enforces, setting by setting, as the launcher finds it",
    params: &[Param::required("name", NAME)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let name: String = fields.need("name")?;
            answer(&state.workers.policy_doctor(&name).await?)
        })
    },
};
