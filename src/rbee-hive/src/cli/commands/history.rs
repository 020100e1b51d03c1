//! `history`

use clap::Args;
use rbee_hive_api::WorkerHistory;
use serde_json::json;

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Points without `--points`: as wide as a plot is.
const POINTS: u64 = render::PLOT_WIDTH as u64;

/// Options of `history`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Name of the worker
    id: String,
    /// Only what is later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most as many points, each the largest of its part of the time [default: 60; with --json all]
    #[arg(long, value_name = "N")]
    points: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

/// Plots a worker's figures.
pub(crate) async fn history(args: &HistoryArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let mut params = json!({"worker_id": args.id});
    if let Some(since) = &args.since {
        params["since"] = json!(since);
    }
    if let Some(points) = args.points.or((!args.asking.json).then_some(POINTS)) {
        params["max_points"] = json!(points);
    }
    args.asking.show(("worker_history", params), output, |history: &WorkerHistory| render::history(history)).await
}
