//! `devices`

use clap::Args;
use rbee_hive_api::Device;
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

/// Lists CPUs and GPUs with their leases.
pub(crate) async fn devices(args: &DevicesArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    args.asking.show(("device_list", Value::Null), output, |list: &Vec<Device>| render::devices(list)).await
}
