//! Fail-points: named places where a build for tests dies, waits or fails, as a test tells it. Any other build has none of them.
//!
//! ```text
//!  test ──► <dir>/set   "launcher.spawn.plan_written#w1=kill@2"     read anew at every point
//!  test ◄── <dir>/hits  "fired launcher.spawn.plan_written w1 4711" one line before it is carried out
//! ```
//! `<dir>` is named by `RBEE_FAIL_POINTS`. The first word is the process: `hive`, `launcher`, `init`, `worker`; `#TEXT` means only what has that
//! text in its subject (`<worker> <name, path or file>`), `@N` the N-th time in a process. Actions: `kill`, `exit:CODE`, `errno:NAME`, `delay:MS`.
//! The feature `fail-points` of this crate compiles them in. Must never know: what comes before or after a point.

#[cfg(feature = "fail-points")]
mod active;
#[cfg(feature = "fail-points")]
mod setting;

#[cfg(feature = "fail-points")]
pub use active::{enter, fails};
#[cfg(feature = "fail-points")]
pub(crate) use active::{raw_fds, step};

/// A point that is passed or is the end: `fail_point!("spawn.plan_written", id)`. Nothing at all without the feature.
#[cfg(feature = "fail-points")]
#[macro_export]
macro_rules! fail_point {
    ($name:expr, $who:expr) => {
        drop($crate::fail_point::fails($name, $who))
    };
}

/// A point that is passed or is the end: `fail_point!("spawn.plan_written", id)`. Nothing at all without the feature.
#[cfg(not(feature = "fail-points"))]
#[macro_export]
macro_rules! fail_point {
    ($name:expr, $who:expr) => {{}};
}

/// A point that may also fail as a system call does: `failing!("write", name)?`. `Ok` without the feature.
#[cfg(feature = "fail-points")]
#[macro_export]
macro_rules! failing {
    ($name:expr, $who:expr) => {
        $crate::fail_point::fails($name, $who)
    };
}

/// A point that may also fail as a system call does: `failing!("write", name)?`. `Ok` without the feature.
#[cfg(not(feature = "fail-points"))]
#[macro_export]
macro_rules! failing {
    ($name:expr, $who:expr) => {
        ::std::result::Result::<(), ::std::io::Error>::Ok(())
    };
}

/// Which process this is from now on, and whose.
#[cfg(not(feature = "fail-points"))]
pub const fn enter(_: &str, _: &str) {}

/// The point before a step of making a sandbox.
#[cfg(not(feature = "fail-points"))]
pub(crate) const fn step(_: &str) -> Result<(), crate::step::CallError> {
    Ok(())
}

/// Descriptors that have to stay open.
#[cfg(not(feature = "fail-points"))]
pub(crate) const fn raw_fds() -> [std::os::fd::RawFd; 0] {
    []
}
