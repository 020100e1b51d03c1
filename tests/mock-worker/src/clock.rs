//! Delays that a test asked for by flag or query.
//!
//! Owns: the only sleep of the mock. Must never know: readiness or HTTP. Nothing is synchronised by it.

use std::time::Duration;

/// Waits `ms` milliseconds: slowness is the behaviour under test here, not a way to await something.
#[expect(clippy::disallowed_methods, reason = "being slow is what the mock was asked for")]
pub(crate) fn be_slow(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Waits until a signal ends the process.
pub(crate) fn idle() -> ! {
    loop {
        std::thread::park();
    }
}
