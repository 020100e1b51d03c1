//! `worker_signal`

use super::super::method::{Method, WhenClientLeaves};
use super::{WORKER_ID, answer};
use crate::params::{Param, parse_signal};

const SIGNAL: &str = r#"{"oneOf":[{"type":"integer","minimum":1,"maximum":64},{"type":"string"}]}"#;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "worker_signal",
    summary: "Sends a signal to a worker's own process",
    params: &[Param::required("worker_id", WORKER_ID), Param::required("signal", SIGNAL)],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let id = fields.worker_id("worker_id")?;
            let signal = parse_signal(&fields.need("signal")?)?;
            answer(&state.workers.signal(&id, signal).await?)
        })
    },
};
