//! `device_list`

use super::super::method::{Method, WhenClientLeaves};
use super::NOTHING;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "device_list",
    summary: "CPUs and GPUs of this host",
    params: NOTHING,
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, _| Box::pin(async move { Ok(state.device_list().await) }),
};
