//! `policy_explain`

use super::super::method::{Method, WhenClientLeaves};
use super::answer;
use crate::params::Param;

const NAME: &str = r#"{"type":"string"}"#;

/// The method. `{name, source, settings: [{setting, value, from, file, line}], exposure: {score, rating, points}}`; `from` is `FILE:LINE` or `default`.
pub(super) const METHOD: Method = Method {
    name: "policy_explain",
    summary: "Every setting of a policy with the file and line that it is from",
    params: &[Param::required("name", NAME)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let name: String = fields.need("name")?;
            answer(&state.workers.policy_explain(&name).await?)
        })
    },
};
