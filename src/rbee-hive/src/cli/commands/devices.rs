//! `devices`

use clap::Args;
use serde_json::Value;

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Options of `devices`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Shows CPUs and GPUs with their leases and how they lie to one another; `--json` is `device_list`.
pub(crate) async fn devices(args: &DevicesArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let method = if args.asking.json { "device_list" } else { "device_topology" };
    args.asking.show((method, Value::Null), output, render::topology).await
}
