//! The command `serve`: from options to a running hive, and from a signal to its end.
//!
//! ```text
//!  options ─► places, config ─► launcher ─► lock ─► sockets bound, directories open ─► privileges gone ─► listen ─► runtime
//! ```
//! The order is the point: everything before the drop of privileges happens without threads, nothing after it needs root.

mod boot;
mod listen;
mod lock;
mod places;
mod privileges;
mod rules;
mod running;

use std::process::ExitCode;

use crate::args::ServeArgs;

/// Why a hive does not come up.
#[derive(Debug)]
pub(crate) enum ServeError {
    /// The options cannot be: exit status 2.
    Usage(String),
    /// Something failed: exit status 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for ServeError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs a hive until it is told to stop.
#[allow(clippy::print_stderr, reason = "a start that fails is told to who started it, in any log format")]
pub(crate) fn run(options: ServeArgs) -> ExitCode {
    crate::logging::install(options.log_format);
    match boot::boot(options).and_then(|booted| running::run(booted).map_err(ServeError::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ServeError::Usage(message)) => {
            eprintln!("rbee-hive: {message}");
            ExitCode::from(2)
        }
        Err(ServeError::Failed(error)) => {
            eprintln!("rbee-hive: {error:#}");
            ExitCode::FAILURE
        }
    }
}
