//! `stop`

use clap::Args;
use rbee_hive_api::Worker;
use serde_json::json;

use super::{Asking, duration_ms};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Options of `stop`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StopArgs {
    /// Name of the worker
    id: String,
    /// Time between the signal and the kill, such as 10s; 0 kills at once [default: the policy's]
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    grace: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

/// Stops a worker and returns when its cgroup is gone and its port is free.
pub(crate) async fn stop(args: &StopArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let mut params = json!({"worker_id": args.id});
    if let Some(grace_ms) = args.grace {
        params["grace_ms"] = json!(grace_ms);
    }
    args.asking.show(("worker_stop", params), output, |worker: &Worker| render::ended(worker)).await
}
