//! The commands, one a file.
//!
//! Each owns its options and what it asks. Must never know how text looks (`render`) or where it goes (`output`).

mod call;
mod devices;
mod events;
mod explain;
mod follow;
mod freeze;
mod history;
mod info;
mod kill;
mod learn;
mod lease;
mod logs;
mod paper;
mod policy;
mod progress;
mod ps;
mod rm;
mod spawn;
mod status;
mod stop;
mod update;
mod values;
mod verify;
mod wait;

use clap::Args;
use rbee_hive_policy::units::{InvalidDuration, parse_duration_ms};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) use call::{CallArgs, call};
pub(super) use devices::{DevicesArgs, devices};
pub(super) use events::{EventsArgs, events};
pub(super) use explain::{ExplainArgs, explain};
pub(super) use freeze::{FreezeArgs, freeze, thaw};
pub(super) use history::{HistoryArgs, history};
pub(super) use info::{InfoArgs, info};
pub(super) use kill::{KillArgs, kill};
pub(super) use learn::{LearnArgs, learn};
pub(super) use lease::{LeaseCommand, lease};
pub(super) use logs::{LogsArgs, logs};
pub(super) use paper::{CompletionsArgs, completions, man};
pub(super) use policy::{PolicyCommand, policy};
pub(super) use ps::{PsArgs, ps};
pub(super) use rm::{RmArgs, rm};
pub(super) use spawn::{SpawnArgs, spawn};
pub(super) use status::{StatusArgs, status};
pub(super) use stop::{StopArgs, stop};
pub(super) use update::{UpdateArgs, update};
pub(super) use verify::{VerifyArgs, verify};
pub(super) use wait::{WaitArgs, wait};

use super::connect::ConnectOptions;
use super::error::CliError;
use super::output::Output;

/// Where to ask and how to answer: the same for every command.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Asking {
    /// Print the hive's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectOptions,
}

impl Asking {
    /// Calls `method` and prints its answer, as JSON or by `render`.
    async fn show<T: DeserializeOwned>(
        &self,
        (method, params): (&'static str, Value),
        output: &mut Output<'_>,
        render: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        let client = self.connect.client().await?;
        let answer = client.call(method, params).await?;
        self.print((method, answer), output, render)
    }

    /// Prints the answer of `method`.
    fn print<T: DeserializeOwned>(
        &self,
        (method, answer): (&'static str, Value),
        output: &mut Output<'_>,
        render: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        // The answer itself and not what this version has read of it: what is new in a later hive must not get lost.
        if self.json {
            return output.json(&answer);
        }
        output.text(&render(&read(method, answer)?))
    }
}

/// An answer as `T`.
pub(super) fn read<T: DeserializeOwned>(method: &'static str, answer: Value) -> Result<T, CliError> {
    serde_json::from_value(answer).map_err(|source| CliError::Answer { method, source })
}

/// A length of time in milliseconds, from `10s` or `1h 30min`.
fn duration_ms(text: &str) -> Result<u64, InvalidDuration> {
    parse_duration_ms(text)
}
