//! What a test needs of the machine before it can begin.
//!
//! Owns: `skip!`, `require_root!`, and the lock of tests that look at the whole machine. Must never know: hives.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use crate::eventually::eventually;

/// Whether the test runs as root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Ends the test here, saying what the machine lacks: `skip!("a GPU")` prints `SKIPPED: needs a GPU`.
#[macro_export]
macro_rules! skip {
    ($($what:tt)*) => {{
        #[allow(clippy::print_stderr, reason = "the runner of the suite counts this line")]
        {
            eprintln!("SKIPPED: needs {}", format_args!($($what)*));
        }
        return;
    }};
}

/// Ends the test here when it does not run as root.
#[macro_export]
macro_rules! require_root {
    () => {
        if !$crate::is_root() {
            $crate::skip!("root");
        }
    };
}

thread_local! {
    /// Whether this thread's test has the machine to itself.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Held by a test that looks at the whole machine; released when dropped.
#[derive(Debug)]
pub struct Exclusive {
    _lock: Flock<File>,
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        ALONE.set(false);
    }
}

/// Held by every hive of a test that does not look at the whole machine.
#[derive(Debug)]
pub(crate) struct Shared {
    _lock: Option<Flock<File>>,
}

/// Waits until no other hive of a test runs on this machine, in this process or another, and lets none start meanwhile.
///
/// # Panics
/// When the lock is not free within ten minutes.
pub fn exclusively() -> Exclusive {
    let lock =
        eventually("the other tests to end", Duration::from_secs(600), || Flock::lock(lock_file(), FlockArg::LockExclusiveNonblock).ok());
    ALONE.set(true);
    Exclusive { _lock: lock }
}

/// Waits until no test has the machine to itself; nothing to wait for in that very test.
///
/// # Panics
/// When the lock can't be taken within ten minutes.
pub(crate) fn among_others() -> Shared {
    let wait = || Flock::lock(lock_file(), FlockArg::LockSharedNonblock).ok();
    Shared { _lock: (!ALONE.get()).then(|| eventually("the test that is alone to end", Duration::from_secs(600), wait)) }
}

fn lock_file() -> File {
    OpenOptions::new().create(true).append(true).open(base_directory().join("rbee-hive-test.lock")).expect("open the lock of the tests")
}

/// Where fixtures put their files: root's own `/run`, since a hive started by root refuses directories that others can write,
/// `/tmp` included; `RBEE_TEST_BASE` names another.
pub(crate) fn base_directory() -> PathBuf {
    if let Some(base) = std::env::var_os("RBEE_TEST_BASE").map(PathBuf::from) {
        fs::create_dir_all(&base).expect("make RBEE_TEST_BASE");
        return base;
    }
    if is_root() { PathBuf::from("/run") } else { std::env::temp_dir() }
}
