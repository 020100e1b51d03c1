//! `hive_shutdown`

use rbee_hive_worker_lifecycle::{ErrorKind, LifecycleError};

use super::super::method::{Method, WhenClientLeaves};
use super::done;
use crate::params::{Param, Refusal};

const WORKERS: &str = r#"{"enum":["stop","keep"],"default":"stop"}"#;
const KEEP_REFUSED: &str = "workers cannot be kept: this version does not adopt workers of an earlier hive, so none may outlive it";

/// The method.
pub(super) const METHOD: Method = Method {
    name: "hive_shutdown",
    summary: "Stops every worker, then the hive; answers at once",
    params: &[Param::optional("workers", WORKERS)],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            match fields.take::<String>("workers")?.as_deref().unwrap_or("stop") {
                "stop" => {}
                "keep" => return Err(LifecycleError::new(ErrorKind::NotAllowedNow, KEEP_REFUSED).into()),
                other => return Err(Refusal::params("workers", format!("{other:?} is not \"stop\" or \"keep\""))),
            }
            state.workers.drain();
            state.stopping.cancel();
            done()
        })
    },
};
