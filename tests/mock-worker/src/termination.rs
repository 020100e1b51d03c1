//! What SIGTERM and SIGINT do.
//!
//! Owns: the two signals. Must never know: HTTP. Blocking and waiting needs no handler and so no unsafe code.

use std::process;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// How the mock takes a request to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnTerm {
    /// Exits with status 0, as llama-server does.
    ExitZero,
    /// Nothing happens; the signal stays pending.
    Ignore,
}

/// Installs the behaviour for every thread started after this call, so it must come before the first of them.
pub(crate) fn install(on_term: OnTerm) -> nix::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    if on_term == OnTerm::ExitZero {
        thread::spawn(move || {
            if signals.wait().is_ok() {
                process::exit(0);
            }
        });
    }
    Ok(())
}
