//! `status`

use clap::Args;
use jiff::Timestamp;
use rbee_hive_api::Worker;
use serde_json::json;

use super::{Asking, read};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Options of `status`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    /// Name of the worker
    id: String,
    #[command(flatten)]
    asking: Asking,
}

/// Shows one worker; with `--json` the object of `worker_status` alone.
pub(crate) async fn status(args: &StatusArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let client = args.asking.connect.client().await?;
    let answer = client.call("worker_status", json!({"worker_id": args.id})).await?;
    if args.asking.json {
        return output.json(&answer);
    }
    let worker: Worker = read("worker_status", answer)?;
    let processes = match worker.has_ended() {
        true => vec![],
        false => match client.worker_process_list(Some(&args.id)).await {
            // Taken off the list between the two calls: its status is still what was asked for.
            Err(error) if error.kind() == Some("not_found") => vec![],
            other => other?,
        },
    };
    output.text(&render::status(&worker, &processes, Timestamp::now()))
}
