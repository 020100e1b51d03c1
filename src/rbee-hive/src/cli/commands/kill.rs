//! `kill`

use clap::Args;
use serde_json::{Value, json};

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::{Output, clean};

/// Options of `kill`.
#[derive(Clone, Debug, Args)]
pub(crate) struct KillArgs {
    /// Name of the worker
    id: String,
    /// Signal by name or number
    #[arg(long, short, default_value = "SIGKILL")]
    signal: String,
    #[command(flatten)]
    asking: Asking,
}

/// Sends a signal to a worker's own process. Nothing is waited for: see `wait` and `stop`.
pub(crate) async fn kill(args: &KillArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let done = format!("{} sent to {}\n", clean(&args.signal), clean(&args.id));
    let params = json!({"worker_id": args.id, "signal": args.signal});
    args.asking.show(("worker_signal", params), output, |_: &Value| done).await
}
