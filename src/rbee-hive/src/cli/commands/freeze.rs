//! `freeze` and `thaw`

use clap::Args;
use rbee_hive_api::Worker;
use serde_json::json;

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::{Output, clean};

/// Options of `freeze` and of `thaw`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FreezeArgs {
    /// Name of the worker
    id: String,
    #[command(flatten)]
    asking: Asking,
}

/// Lets a worker stand still.
pub(crate) async fn freeze(args: &FreezeArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    args.ask("worker_freeze", output).await
}

/// Lets it go on; returns when it answers.
pub(crate) async fn thaw(args: &FreezeArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    args.ask("worker_thaw", output).await
}

impl FreezeArgs {
    async fn ask(&self, method: &'static str, output: &mut Output<'_>) -> Result<(), CliError> {
        let shown = |worker: &Worker| format!("{} is {}\n", clean(&worker.worker_id), clean(&worker.state));
        self.asking.show((method, json!({"worker_id": self.id})), output, shown).await
    }
}
