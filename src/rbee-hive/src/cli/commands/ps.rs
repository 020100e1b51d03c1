//! `ps`

use clap::Args;
use jiff::Timestamp;
use rbee_hive_api::Worker;
use serde_json::{Map, json};

use super::{Asking, values};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Options of `ps`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PsArgs {
    /// Only workers in this state, such as ready or failed
    #[arg(long)]
    state: Option<String>,
    /// Only workers with this label (repeatable: with all of them)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::pair)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    asking: Asking,
}

/// Lists workers, the ended ones included until they are removed.
pub(crate) async fn ps(args: &PsArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let mut params = json!({});
    if let Some(state) = &args.state {
        params["state"] = json!(state);
    }
    if !args.labels.is_empty() {
        params["labels"] = args.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>().into();
    }
    args.asking.show(("worker_list", params), output, |list: &Vec<Worker>| render::workers(list, Timestamp::now())).await
}
