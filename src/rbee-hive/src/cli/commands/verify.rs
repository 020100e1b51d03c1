//! `verify`

use clap::Args;
use rbee_hive_api::Worker;
use serde_json::json;

use super::{Asking, read};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Options of `verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Name of the worker
    id: String,
    #[command(flatten)]
    asking: Asking,
}

/// Shows what a look at the worker's sandbox finds; a drift is a failure, so that scripts see it.
pub(crate) async fn verify(args: &VerifyArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let client = args.asking.connect.client().await?;
    let answer = client.call("worker_verify", json!({"worker_id": args.id})).await?;
    let worker: Worker = read("worker_verify", answer.clone())?;
    if args.asking.json {
        output.json(&answer)?;
    } else {
        output.text(&render::verified(&worker))?;
    }
    match worker.drift.len() {
        0 => Ok(()),
        differences => Err(CliError::Drift { id: worker.worker_id, differences }),
    }
}
