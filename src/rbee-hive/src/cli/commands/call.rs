//! `call`

use clap::Args;
use serde_json::Value;

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::Output;

/// Options of `call`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CallArgs {
    /// Name of the method; rpc.discover lists them
    method: String,
    /// Parameters as JSON, an object or an array
    #[arg(value_name = "JSON", value_parser = json)]
    params: Option<Value>,
    #[command(flatten)]
    asking: Asking,
}

fn json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// Calls a method and prints its result, which is JSON with or without `--json`.
pub(crate) async fn call(args: &CallArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let client = args.asking.connect.client().await?;
    let result = client.call(&args.method, args.params.clone().unwrap_or_default()).await?;
    output.json(&result)
}
