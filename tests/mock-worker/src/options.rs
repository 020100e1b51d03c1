//! The command line: the seed's `--model --device --port`, and one flag for each way in which a worker can misbehave.
//!
//! Owns: names and defaults of the flags. Must never know: what they do.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// What the mock was told on its command line.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "mock-worker", about = "A worker for tests: serves HTTP and misbehaves on request")]
pub(crate) struct Options {
    /// The model it would load; never opened.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The device it would use, as the hive spells it.
    #[arg(long)]
    pub(crate) device: Option<String>,
    /// The TCP port to listen on; none and no socket: it serves nothing and waits for a signal.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// The address to listen on; one that starts with `/` is a Unix socket, as llama-server has it.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// A Unix socket to listen on.
    #[arg(long)]
    pub(crate) socket: Option<PathBuf>,
    /// Milliseconds until `/health` answers 200.
    #[arg(long, default_value_t = 0)]
    pub(crate) start_delay_ms: u64,
    /// Binds only once it is ready, as rbee's own workers do.
    #[arg(long)]
    pub(crate) bind_when_ready: bool,
    /// `/health` answers 503 for ever.
    #[arg(long)]
    pub(crate) never_ready: bool,
    /// Aborts (SIGABRT) after so many milliseconds.
    #[arg(long)]
    pub(crate) crash_after_ms: Option<u64>,
    /// Exits with this status instead of serving, once what else was asked for (memory, children, output) is done.
    #[arg(long)]
    pub(crate) exit_code: Option<u8>,
    /// Touches so many bytes of memory at the start; an idle child does, too.
    #[arg(long, default_value_t = 0)]
    pub(crate) alloc: u64,
    /// Starts so many idle children.
    #[arg(long, default_value_t = 0)]
    pub(crate) fork: u32,
    /// Leaves a grandchild behind in a session of its own.
    #[arg(long)]
    pub(crate) daemonize: bool,
    /// SIGTERM and SIGINT do nothing.
    #[arg(long)]
    pub(crate) ignore_sigterm: bool,
    /// Prints so many bytes to standard output at the start.
    #[arg(long, default_value_t = 0)]
    pub(crate) flood: u64,
    /// Asks the kernel to remove a module that nobody has, and prints the answer: no worker may ever ask for that.
    #[arg(long)]
    pub(crate) violate: bool,
    /// Binds this port instead of the one it was told.
    #[arg(long)]
    pub(crate) bind_port: Option<u16>,
    /// Threads that burn CPU for ever.
    #[arg(long, default_value_t = 0)]
    pub(crate) spin_threads: u32,
    /// Which part of a process tree this process plays; set by the mock for its own children.
    #[arg(long, value_enum, hide = true, default_value_t = Role::Worker)]
    pub(crate) role: Role,
    /// Further words after `--`, reported by `/info` and otherwise ignored.
    #[arg(last = true, hide = true)]
    pub(crate) rest: Vec<String>,
}

/// The part of a process tree that one process plays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// The worker itself.
    #[default]
    Worker,
    /// A child that only waits.
    Idle,
    /// The middle of a double fork: takes a session, starts an idle child, ends.
    SessionLeader,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_command_line_is_understood() {
        let told = Options::parse_from(["mock-worker", "--model", "m", "--device", "GPU-0", "--port", "9100"]);
        assert_eq!((told.model.as_deref(), told.device.as_deref(), told.port), (Some("m"), Some("GPU-0"), Some(9100)));
        assert_eq!(told.role, Role::Worker);
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert!(Options::try_parse_from(["mock-worker", "--no-such-flag"]).is_err());
    }
}
