//! `update`

use clap::Args;
use rbee_hive_api::Worker;
use serde_json::{Value, json};

use super::{Asking, values};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::render;

/// Options of `update`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Name of the worker
    id: String,
    /// A limit, such as memory_max=2GiB (repeatable); all of them are changed, or none
    #[arg(long = "limit", value_name = "KEY=VALUE", value_parser = values::pair, required = true)]
    limits: Vec<(String, String)>,
    /// Let the kernel reclaim first what a memory limit is below the present use; refused otherwise
    #[arg(long)]
    reclaim: bool,
    #[command(flatten)]
    asking: Asking,
}

impl UpdateArgs {
    fn params(&self) -> Result<Value, CliError> {
        let limits = values::limits(&self.limits)?;
        Ok(json!({"worker_id": self.id, "limits": limits, "reclaim": self.reclaim}))
    }
}

/// Changes limits of a running worker and shows all of them.
pub(crate) async fn update(args: &UpdateArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    args.asking.show(("worker_update", args.params()?), output, |worker: &Worker| render::limits(worker)).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        update: UpdateArgs,
    }

    #[test]
    fn options_become_the_methods_parameters() {
        let line = ["update", "w1", "--limit", "memory_max=1GiB", "--limit", "io_max=8:0 rbps=1MiB", "--reclaim"];
        let want = json!({"worker_id": "w1", "limits": {"memory_max": "1GiB", "io_max": "8:0 rbps=1MiB"}, "reclaim": true});
        assert_eq!(Command::try_parse_from(line).unwrap().update.params().unwrap(), want);
        assert!(Command::try_parse_from(["update", "w1"]).is_err(), "nothing is asked for");
    }
}
