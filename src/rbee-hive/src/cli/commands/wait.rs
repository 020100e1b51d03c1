//! `wait`

use std::time::Duration;

use clap::{Args, ValueEnum};
use rbee_hive_api::{Deadline, Worker};
use serde_json::json;

use super::{Asking, duration_ms};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// How long after its own time-out the hive may take to say so.
const BEYOND: Duration = Duration::from_secs(10);

/// Options of `wait`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitArgs {
    /// Name of the worker
    id: String,
    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t = Until::Exit)]
    until: Until,
    /// Give up after this time, such as 30s [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    timeout: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// The worker answers
    Ready,
    /// It has ended and everything is taken back
    Exit,
}

/// Waits for a worker. How it ended does not matter for the exit status: the wait is done.
pub(crate) async fn wait(args: &WaitArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let client = args.asking.connect.client().await?;
    let until = match args.until {
        Until::Ready => "ready",
        Until::Exit => "exit",
    };
    let mut params = json!({"worker_id": args.id, "for": until});
    let mut deadline = Deadline::None;
    if let Some(timeout_ms) = args.timeout {
        params["timeout_ms"] = json!(timeout_ms);
        deadline = Deadline::Within(Duration::from_millis(timeout_ms).saturating_add(BEYOND));
    }
    let answer = client.call_within(deadline, "worker_wait", params).await?;
    args.asking.print(("worker_wait", answer), output, |worker: &Worker| match args.until {
        Until::Ready => render::started(worker),
        Until::Exit => render::ended(worker),
    })
}
