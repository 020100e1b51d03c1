//! `explain`

use clap::Args;
use rbee_hive_api::WorkerExplanation;
use serde_json::json;

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Options of `explain`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Name of the worker
    id: String,
    #[command(flatten)]
    asking: Asking,
}

/// Shows why a worker may what it may.
pub(crate) async fn explain(args: &ExplainArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let params = json!({"worker_id": args.id});
    args.asking.show(("worker_explain", params), output, |worker: &WorkerExplanation| render::explanation(worker)).await
}
