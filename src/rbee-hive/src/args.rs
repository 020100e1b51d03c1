//! The command line of everything that is not a client command.
//!
//! Owns the option names of `serve`, `run` and the hidden commands. Must never know what they lead to; defaults that depend
//! on the caller (state directory, log directory, cgroup root) are decided where they are used.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::cli::ClientCommand;

/// Starts, watches and stops sandboxed worker processes on this machine.
#[derive(Debug, Parser)]
#[command(name = "rbee-hive", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

impl Args {
    /// The command asked for; `serve` where there is none.
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(Box::new(self.serve)))
    }
}

/// What the binary can be asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the hive (the default)
    Serve(Box<ServeArgs>),
    /// Run one sandboxed command in the foreground; no hive is needed
    Run(Box<RunArgs>),
    /// The privileged half of a hive; started by `serve`
    #[command(hide = true)]
    Launcher(Box<LauncherArgs>),
    /// Asks a GPU's driver in a process of its own; started by the hive
    #[command(hide = true)]
    NvmlHelper {
        /// What is asked
        question: Vec<String>,
    },
    /// Client commands
    #[command(flatten)]
    Client(ClientCommand),
}

/// Where things are on this host: the same for `serve`, `run` and the launcher.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct PlaceArgs {
    /// Directory of socket, lock and records [default: /run/rbee-hive as root, else $XDG_RUNTIME_DIR/rbee-hive]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Directory of the workers' logs [default: /var/log/rbee-hive, or STATE_DIR/log with --state-dir]
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Directory of further policies; a file wins over an embedded policy of the same name (repeatable)
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Vec<PathBuf>,
    /// A further directory of models, for every policy (repeatable)
    #[arg(long, value_name = "DIR")]
    pub(crate) model_dir: Vec<PathBuf>,
    /// A further directory of worker binaries, for every policy (repeatable)
    #[arg(long, value_name = "DIR")]
    pub(crate) binary_dir: Vec<PathBuf>,
    /// Cgroup to work below, relative to each hierarchy's mount
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_root: Option<String>,
    /// Simulated devices instead of this host's
    #[arg(long, value_name = "FILE")]
    pub(crate) devices: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl PlaceArgs {
    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Options of `serve`.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct ServeArgs {
    /// Address to listen on; loopback only [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<IpAddr>,
    /// TCP port, 0 picks one [default: 8600]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Unix socket [default: STATE_DIR/hive.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The workers' ports, as FIRST-LAST [default: 9100-9199]
    #[arg(long, value_name = "RANGE")]
    pub(crate) ports: Option<crate::config::PortRange>,
    /// User to become after the start, when started by root [default: rbee-hive, or uid 1879048191 where there is none]
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Group to become after the start [default: the user's own]
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Group whose members may use the Unix socket [default: the hive's own]
    #[arg(long, value_name = "GROUP")]
    pub(crate) socket_group: Option<String>,
    /// File with a bearer token that grants access over TCP
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(flatten)]
    pub(crate) places: PlaceArgs,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Options of `run`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// Policy by name, or a policy file
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) policy: String,
    /// A limit, as KEY=VALUE (repeatable)
    #[arg(long = "limit", value_name = "KEY=VALUE")]
    pub(crate) limits: Vec<String>,
    /// Device to run on
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Writes the verdict as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) places: PlaceArgs,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Options of the hidden `launcher`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct LauncherArgs {
    /// Number of the inherited descriptor of the channel to the hive
    #[arg(long, value_name = "FD")]
    pub(crate) channel_fd: i32,
    #[command(flatten)]
    pub(crate) places: PlaceArgs,
    /// The hive's group, for the records that it may read
    #[arg(long, value_name = "GID")]
    pub(crate) hive_gid: Option<u32>,
    /// Ports that workers may have, as FIRST-LAST; the configuration's without it
    #[arg(long, value_name = "RANGE")]
    pub(crate) ports: Option<crate::config::PortRange>,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Serve one foreground command instead of a hive
    #[arg(long)]
    pub(crate) for_run: bool,
    /// Watch the foreground command, for `policy learn`
    #[arg(long, requires = "for_run")]
    pub(crate) watch: bool,
    /// The one policy file of a foreground command
    #[arg(long, value_name = "FILE")]
    pub(crate) policy_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_command_means_serve() {
        let command = Args::try_parse_from(["rbee-hive", "--port", "8600"]).unwrap().into_command();
        assert!(matches!(command, Command::Serve(options) if options.port == Some(8600)));
    }

    #[test]
    fn serve_takes_the_same_options_by_name() {
        let command = Args::try_parse_from(["rbee-hive", "serve", "--port", "0", "--ports", "9100-9101"]).unwrap().into_command();
        assert!(matches!(command, Command::Serve(options) if options.port == Some(0)));
    }

    #[test]
    fn run_passes_everything_after_the_dashes() {
        let args = ["rbee-hive", "run", "--policy", "default", "--limit", "pids_max=3", "--", "sh", "-c", "--policy x"];
        let Command::Run(options) = Args::try_parse_from(args).unwrap().into_command() else { panic!("not run") };
        assert_eq!(options.command, ["sh", "-c", "--policy x"]);
        assert_eq!(options.limits, ["pids_max=3"]);
    }
}
