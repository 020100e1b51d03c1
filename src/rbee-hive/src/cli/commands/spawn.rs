//! `spawn`

use clap::{Args, ValueEnum};
use rbee_hive_api::{SpawnParams, SpawnWait, Worker};
use serde_json::Value;

use super::{Asking, progress, values};
use crate::cli::error::CliError;
use crate::cli::output::{Output, remark};
use crate::cli::render;

/// Options of `spawn`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SpawnArgs {
    /// Model: a name or path below the policy's model_dirs, or a word for the worker
    #[arg(long)]
    model: String,
    /// Name of the worker [default: the hive makes one]
    #[arg(long)]
    id: Option<String>,
    /// 0, GPU-0, cuda:0, CPU-0, cpu, auto, GPU-0,GPU-1, or an object of constraints [default: auto]
    #[arg(long)]
    device: Option<String>,
    /// Run on this lease, which stays its holder's
    #[arg(long, value_name = "LEASE", conflicts_with = "device")]
    lease: Option<String>,
    /// Policy [default: default]
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// A limit, such as memory_max=2GiB (repeatable)
    #[arg(long = "limit", value_name = "KEY=VALUE", value_parser = values::pair)]
    limits: Vec<(String, String)>,
    /// A label (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::pair)]
    labels: Vec<(String, String)>,
    /// A variable of the worker's environment (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    env: Vec<(String, String)>,
    /// Return when the worker answers, or as soon as it runs
    #[arg(long, value_enum, default_value_t = Until::Ready)]
    wait: Until,
    #[command(flatten)]
    asking: Asking,
    /// Arguments for the worker, after `--`
    #[arg(last = true)]
    args: Vec<String>,
}

/// When `spawn` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// The worker answers.
    Ready,
    /// It runs.
    Started,
}

impl SpawnArgs {
    fn params(self) -> Result<(SpawnParams, Asking), CliError> {
        let params = SpawnParams {
            worker_id: self.id,
            model: self.model,
            device: self.device.as_deref().map(values::device),
            lease_id: self.lease,
            policy: self.policy,
            args: self.args,
            env: self.env.into_iter().collect(),
            limits: values::limits(&self.limits)?,
            labels: self.labels.into_iter().collect(),
            wait: Some(match self.wait {
                Until::Ready => SpawnWait::Ready,
                Until::Started => SpawnWait::Started,
            }),
        };
        Ok((params, self.asking))
    }
}

/// Starts a worker. On a terminal a line shows how far it is.
pub(crate) async fn spawn(args: SpawnArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    let (params, asking) = args.params()?;
    let client = asking.connect.client().await?;
    let answer = match (params.wait, progress::Line::on_terminal()) {
        (Some(SpawnWait::Ready), Some(line)) => progress::spawn_and_watch(&client, params, &line).await?,
        _ => client.call("worker_spawn", to_value(&params)?).await?,
    };
    asking.print(("worker_spawn", answer), output, |worker: &Worker| {
        // What is not enforced must be seen by whoever relies on it, not only found in `status`.
        for gap in &worker.not_in_force {
            remark(&format!("not in force: {} ({})", gap.setting, gap.why));
        }
        render::started(worker)
    })
}

/// The parameters as JSON.
pub(super) fn to_value(params: &SpawnParams) -> Result<Value, CliError> {
    serde_json::to_value(params).map_err(|e| CliError::Usage(format!("the options can't be sent: {e}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        spawn: SpawnArgs,
    }

    fn sent(line: &[&str]) -> Value {
        let command = Command::try_parse_from(std::iter::once(&"spawn").chain(line)).unwrap();
        serde_json::to_value(command.spawn.params().unwrap().0).unwrap()
    }

    #[test]
    fn options_become_the_methods_parameters() {
        let line = "--model m --id w1 --device 0 --policy p --limit memory_max=2GiB --limit pids_max=64 --label a=b --env K=v=w --wait started -- -c 8";
        let want = json!({"model": "m", "worker_id": "w1", "device": 0, "policy": "p", "limits": {"memory_max": "2GiB", "pids_max": 64},
            "labels": {"a": "b"}, "env": {"K": "v=w"}, "wait": "started", "args": ["-c", "8"]});
        assert_eq!(sent(&line.split(' ').collect::<Vec<_>>()), want);
        assert_eq!(sent(&["--model", "m"]), json!({"model": "m", "wait": "ready"}));
    }

    #[test]
    fn a_limit_without_a_value_is_a_wrong_command_line() {
        for bad in [
            &["--model", "m", "--limit", "memory_max"][..],
            &["--id", "w"],
            &["--model", "m", "extra"],
            &["--model", "m", "--wait", "exit"],
        ] {
            let result = Command::try_parse_from(std::iter::once(&"spawn").chain(bad));
            assert_eq!(result.err().map(|e| e.exit_code()), Some(2), "{bad:?}");
        }
    }
}
