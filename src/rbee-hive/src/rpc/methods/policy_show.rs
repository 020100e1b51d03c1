//! `policy_show`

use serde_json::json;

use super::super::method::{Method, WhenClientLeaves};
use crate::params::Param;

const NAME: &str = r#"{"type":"string"}"#;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "policy_show",
    summary: "One policy as written and with its includes resolved",
    params: &[Param::required("name", NAME)],
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, mut fields| {
        Box::pin(async move {
            let name: String = fields.need("name")?;
            let (source, text, resolved) = state.workers.policy_show(&name).await?;
            Ok(json!({"name": name, "source": source, "text": text, "policy": resolved}))
        })
    },
};
