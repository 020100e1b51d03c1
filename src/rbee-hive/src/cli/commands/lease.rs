//! `lease list|acquire|release`

use clap::{Args, Subcommand};
use rbee_hive_api::{Lease, LeaseParams};
use serde_json::{Value, json};

use super::{Asking, duration_ms, values};
use crate::cli::error::CliError;
use crate::cli::output::{Output, clean};
use crate::cli::render;

/// What can be done with leases.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// List leases: who holds what, how much of it, and how long
    List(ListArgs),
    /// Take a lease without starting a worker; prints its id
    Acquire(AcquireArgs),
    /// Give a lease back that has no worker of its own
    Release(ReleaseArgs),
}

/// Options of `lease list`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    asking: Asking,
}

/// Options of `lease acquire`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AcquireArgs {
    /// As for `spawn`, or an object such as '{"count": 2, "linked": true}'
    #[arg(long)]
    device: String,
    /// A name for others to read
    #[arg(long)]
    holder: String,
    /// End it by itself after this time, such as 10min
    #[arg(long, value_name = "TIME", value_parser = duration_ms)]
    ttl: Option<u64>,
    /// Wait in line for a device that is taken
    #[arg(long)]
    queue: bool,
    /// Wait in line no longer than this
    #[arg(long, value_name = "TIME", value_parser = duration_ms, requires = "queue")]
    queue_timeout: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

/// Options of `lease release`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// Id of the lease
    #[arg(value_name = "LEASE")]
    lease: String,
    #[command(flatten)]
    asking: Asking,
}

/// Carries one of them out.
pub(crate) async fn lease(command: &LeaseCommand, output: &mut Output<'_>) -> Result<(), CliError> {
    match command {
        LeaseCommand::List(args) => args.asking.show(("lease_list", Value::Null), output, |list: &Vec<Lease>| render::leases(list)).await,
        LeaseCommand::Acquire(args) => {
            let params = LeaseParams {
                device: values::device(&args.device),
                holder: args.holder.clone(),
                ttl_ms: args.ttl,
                when_busy: args.queue.then(|| "queue".to_owned()),
                queue_timeout_ms: args.queue_timeout,
            };
            let params = serde_json::to_value(params).map_err(|e| CliError::Usage(format!("the options can't be sent: {e}")))?;
            args.asking.show(("lease_acquire", params), output, |lease: &Lease| format!("{}\n", clean(&lease.lease_id))).await
        }
        LeaseCommand::Release(args) => {
            let done = format!("{} is given back\n", clean(&args.lease));
            args.asking.show(("lease_release", json!({"lease_id": args.lease})), output, |_: &Value| done).await
        }
    }
}
