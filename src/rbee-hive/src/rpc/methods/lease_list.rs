//! `lease_list`

use super::super::method::{Method, WhenClientLeaves};
use super::{NOTHING, answer};

/// The method.
pub(super) const METHOD: Method = Method {
    name: "lease_list",
    summary: "Leases on devices: who holds what, how much of it, and how long",
    params: NOTHING,
    when_client_leaves: WhenClientLeaves::Abandon,
    call: |state, _| Box::pin(async move { answer(&state.workers.leases()) }),
};
