//! `device_topology`

use super::super::method::{Method, WhenClientLeaves};
use super::NOTHING;
use crate::access::Role;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "device_topology",
    role: Role::Observe,
    summary: "CPUs and GPUs of this host, and what could not be found out about them",
    params: NOTHING,
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, _| Box::pin(async move { Ok(state.device_topology().await) }),
};
