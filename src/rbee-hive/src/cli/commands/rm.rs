//! `rm`

use clap::Args;
use serde_json::{Value, json};

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::{Output, clean};

/// Options of `rm`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RmArgs {
    /// Name of the worker
    id: String,
    #[command(flatten)]
    asking: Asking,
}

/// Stops a worker if need be and takes it off the list.
pub(crate) async fn rm(args: &RmArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let id = clean(&args.id);
    args.asking.show(("worker_delete", json!({"worker_id": args.id})), output, |_: &Value| format!("{id} removed\n")).await
}
