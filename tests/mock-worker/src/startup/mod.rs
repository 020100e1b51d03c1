//! From the command line to a serving (or misbehaving) process.
//!
//! Owns: the order in which flags act. Must never know: HTTP routes.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::thread;

use crate::options::{Options, Role};
use crate::readiness::Readiness;
use crate::routes::Site;
use crate::termination::{self, OnTerm};
use crate::{clock, load, serve, sight};

/// Plays the role that the options name; returns only where there is nothing left to do.
pub(crate) fn run(options: Options) -> io::Result<ExitCode> {
    match options.role {
        Role::Idle => {
            load::hold_memory(options.alloc);
            clock::idle()
        }
        Role::SessionLeader => lead_a_session(),
        Role::Worker => work(options),
    }
}

/// Says on standard error why the mock gives up.
pub(crate) fn complain(error: &dyn Display) {
    // A worker that cannot even complain still ends with its exit status.
    let _ = writeln!(io::stderr(), "mock-worker: {error}");
}

fn lead_a_session() -> io::Result<ExitCode> {
    nix::unistd::setsid()?;
    load::start_self(Role::Idle)?;
    Ok(ExitCode::SUCCESS)
}

fn work(options: Options) -> io::Result<ExitCode> {
    // Read before anything is blocked, so that a test can see the signal state that execve left.
    let status_at_start = sight::text("/proc/self/status");
    let on_term = if options.ignore_sigterm { OnTerm::Ignore } else { OnTerm::ExitZero };
    termination::install(on_term)?;
    if let Some(ms) = options.crash_after_ms {
        thread::spawn(move || {
            clock::be_slow(ms);
            process::abort();
        });
    }
    if options.daemonize {
        load::daemonize()?;
    }
    if let (_, Some(error)) = load::start_children(options.fork) {
        return Err(error);
    }
    load::spin_for_ever(options.spin_threads);
    load::print(options.flood)?;
    if options.violate {
        load::remove_a_module_that_is_not_there()?;
    }
    load::hold_memory(options.alloc);
    if let Some(code) = options.exit_code {
        return Ok(ExitCode::from(code));
    }
    // The delay counts from here, whether the port is bound before or after it.
    let readiness = Readiness::from_options(&options);
    if options.bind_when_ready {
        clock::be_slow(options.start_delay_ms);
    }
    serve::until_killed(&options, Site { readiness, status_at_start })
}
