//! `lease_release`

use super::super::method::{Method, WhenClientLeaves};
use super::done;
use crate::params::Param;

const LEASE_ID: &str = r#"{"type":"string","pattern":"^lease:[0-9]+$"}"#;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "lease_release",
    summary: "Gives a lease without a worker back; a worker that runs on it keeps it until it has ended",
    params: &[Param::required("lease_id", LEASE_ID)],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let id: String = fields.need("lease_id")?;
            state.workers.lease_release(&id).await?;
            done()
        })
    },
};
