//! `device_topology`

use super::super::method::{Method, WhenClientLeaves};
use super::NOTHING;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "device_topology",
    summary: "CPUs and GPUs of this host, and what could not be found out about them",
    params: NOTHING,
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, _| Box::pin(async move { Ok(state.device_topology().await) }),
};
