//! `events`

use clap::Args;
use rbee_hive_api::{EventEnd, EventQuery};
use serde_json::json;

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Options of `events`.
#[derive(Clone, Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on until the hive stops; without --after only with what comes from now on
    #[arg(long, short)]
    follow: bool,
    /// Only events of this worker
    #[arg(long, value_name = "ID")]
    worker: Option<String>,
    /// Only events of this kind: state, verdict, limits, pressure, drift, device, lease, idle
    #[arg(long)]
    kind: Option<String>,
    /// Only events behind this number
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

/// Shows what has happened, a line an event; with --json a line an object.
pub(crate) async fn events(args: &EventsArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let client = args.asking.connect.client().await?;
    let (after, end) = match args.follow {
        true => (args.after, EventEnd::Hive),
        false => (args.after.or(Some(0)), EventEnd::Now),
    };
    let query = EventQuery { after, worker_id: args.worker.clone(), kind: args.kind.clone() };
    let mut stream = client.events(&query, end).await?;
    while let Some(event) = stream.next().await? {
        match args.asking.json {
            true => output.json_line(&json!(event))?,
            false => output.text(&render::event(&event))?,
        }
        output.flush()?;
    }
    Ok(())
}
