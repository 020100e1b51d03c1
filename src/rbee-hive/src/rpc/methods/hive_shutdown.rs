//! `hive_shutdown`

use super::super::method::{Method, WhenClientLeaves};
use super::done;
use crate::access::Role;
use crate::config::OnTerminate;
use crate::params::{Param, Refusal};

const WORKERS: &str = r#"{"enum":["stop","keep"],"default":"stop"}"#;

/// The method.
pub(super) const METHOD: Method = Method {
    name: "hive_shutdown",
    role: Role::Admin,
    summary: "Ends the hive; before it every worker, or with \"keep\" those whose policy wants it; answers at once",
    params: &[Param::optional("workers", WORKERS)],
    when_client_leaves: WhenClientLeaves::Finish,
    call: |state, mut fields| {
        Box::pin(async move {
            let what = match fields.take::<String>("workers")?.as_deref().unwrap_or("stop") {
                "stop" => OnTerminate::Stop,
                "keep" => OnTerminate::Keep,
                other => return Err(Refusal::params("workers", format!("{other:?} is not \"stop\" or \"keep\""))),
            };
            let _ = state.at_the_end.set(what);
            state.workers.drain();
            state.stopping.cancel();
            done()
        })
    },
};
