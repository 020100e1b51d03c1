//! `policy_list`

use super::super::method::{Method, WhenClientLeaves};
use super::{NOTHING, answer};

/// The method.
pub(super) const METHOD: Method = Method {
    name: "policy_list",
    summary: "All policies by name",
    params: NOTHING,
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, _| Box::pin(async move { answer(&state.workers.policy_list().await?) }),
};
