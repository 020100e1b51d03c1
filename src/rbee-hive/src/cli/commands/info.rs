//! `info`

use clap::Args;
use rbee_hive_api::HiveInfo;
use serde_json::Value;

use super::Asking;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Options of `info`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Shows the hive itself.
pub(crate) async fn info(args: &InfoArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    args.asking.show(("hive_info", Value::Null), output, |info: &HiveInfo| render::hive(info)).await
}
