//! `logs`

use std::time::Duration;

use clap::Args;
use rbee_hive_api::{Client, LogPage};
use serde_json::{Value, json};

use super::follow::{Cursor, Writer};
use super::{Asking, read};
use crate::cli::error::CliError;
use crate::cli::output::{Output, remark};

/// How often a followed log is read.
const LOOK: Duration = Duration::from_millis(250);
/// Most lines taken at one look.
const FOLLOW_LINES: usize = 10_000;
/// Lines from the end, where no number is asked for.
const DEFAULT_TAIL: usize = 200;

/// Options of `logs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArgs {
    /// Name of the worker
    id: String,
    /// Go on until the worker has ended; with --json a line an object
    #[arg(long, short)]
    follow: bool,
    /// Number of lines from the end [default: 200]
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Only lines from this time on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Shows what a worker has printed.
pub(crate) async fn logs(args: &LogsArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let client = args.asking.connect.client().await?;
    if args.follow {
        return follow(&client, args, output).await;
    }
    let answer = client.call("worker_logs", params(args)).await?;
    if args.asking.json {
        return output.json(&answer);
    }
    let page: LogPage = read("worker_logs", answer)?;
    let mut writer = Writer::new(output);
    page.lines.iter().try_for_each(|line| writer.line(line))?;
    writer.end()
}

fn params(args: &LogsArgs) -> Value {
    let mut params = json!({"worker_id": args.id});
    if let Some(tail) = args.tail {
        params["tail"] = json!(tail);
    }
    if let Some(since) = &args.since {
        params["since"] = json!(since);
    }
    params
}

async fn follow(client: &Client, args: &LogsArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let mut writer = if args.asking.json { Writer::json(output) } else { Writer::new(output) };
    let mut cursor = Cursor::default();
    // Lines that are not to be shown are read too: the last of them say where the rest begins.
    let tail = args.tail.map_or(DEFAULT_TAIL, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut params = params(args);
    params["tail"] = json!(tail.max(FOLLOW_LINES));
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        // Asked before the log is read: what it printed before its end is then in the log that follows.
        let over = match client.worker_status(&args.id).await {
            Ok(worker) => worker.has_ended(),
            // Removed while it was followed; before the first look it is the answer.
            Err(error) if error.kind() == Some("not_found") && cursor.has_begun() => return writer.end(),
            Err(error) => return Err(error.into()),
        };
        let page: LogPage = read("worker_logs", client.call("worker_logs", params.clone()).await?)?;
        if cursor.has_begun() && page.lines.len() >= FOLLOW_LINES && cursor.misses(&page) {
            remark("the worker prints faster than this can follow: lines are missing here");
        }
        let passed_over = if cursor.has_begun() { 0 } else { page.lines.len().saturating_sub(tail) };
        cursor.fresh(&page).skip(passed_over).try_for_each(|line| writer.line(line))?;
        writer.flush()?;
        cursor.advance(&page);
        if over {
            return writer.end();
        }
        params["tail"] = json!(FOLLOW_LINES);
        if let Some(since) = cursor.since() {
            params["since"] = json!(since.to_string());
        }
    }
}
