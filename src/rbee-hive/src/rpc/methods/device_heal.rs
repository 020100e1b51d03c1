//! `device_heal`

use super::super::method::{Method, WhenClientLeaves};
use super::done;
use crate::params::Param;

const DEVICE: &str = r#"{"type":"string","maxLength":128}"#;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "device_heal",
    summary: "Says that a GPU was reset after a fault that only a reset mends: it is given out again once it answers as it should",
    params: &[Param::required("device", DEVICE)],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let device: String = fields.need("device")?;
            state.workers.device_heal(&device).await?;
            done()
        })
    },
};
