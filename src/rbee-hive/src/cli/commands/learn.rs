//! `policy learn`: watches a command in the foreground and writes down what it needs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration_ms;
use crate::args::{PlaceArgs, RunArgs};
use crate::cli::error::CliError;
use crate::cli::output::{clean, remark};
use crate::learn;

/// Options of `policy learn`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LearnArgs {
    /// Policy by name, or a policy file, that the command runs under: the proposal never goes beyond it
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    policy: String,
    /// Where the policy goes; its seccomp profile goes to seccomp/ beside it. Neither may be there yet
    #[arg(long, value_name = "FILE", default_value = "learned.toml")]
    output: PathBuf,
    /// Device to run on
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// After this time the command is asked to stop, as for a server; what it did until then counts
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration_ms)]
    timeout: u64,
    /// Port that a server binds: meanwhile it answers on the same port of 127.0.0.1, so that it can be asked for what it is to learn
    #[arg(long, value_name = "PORT")]
    port: Option<std::num::NonZeroU16>,
    #[command(flatten)]
    places: PlaceArgs,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Watches, proposes, writes.
pub(crate) fn learn(args: &LearnArgs) -> Result<(), CliError> {
    let run = RunArgs {
        policy: args.policy.clone(),
        limits: vec![],
        device: args.device.clone(),
        report: None,
        places: args.places.clone(),
        command: args.command.clone(),
    };
    let how_long = (Duration::from_millis(args.timeout), args.port.map(u16::from));
    let written = learn::learn(&run, &args.output, how_long).map_err(CliError::Learn)?;
    remark(&format!(
        "{} and {}: {} system calls, {} paths. The command ended so: {}. Read them before you use them; what this run did not come to is \
         not in them.",
        clean(&written.policy.display().to_string()),
        clean(&written.profile.display().to_string()),
        written.calls,
        written.paths,
        clean(&written.end),
    ));
    Ok(())
}
