//! How much the streams hold.
//!
//! Owns the numbers. Must never know what is held.

/// Jobs kept; beyond it the one that ended first goes, or, when none has ended, the oldest.
pub const MAX_JOBS: usize = 1_000;

/// Lines kept of one job; the marker follows and later lines are dropped.
pub const MAX_JOB_LINES: usize = 10_000;

/// Bytes kept of one job's lines; reaching it cuts as [`MAX_JOB_LINES`] does.
pub const MAX_JOB_BYTES: usize = 2 * 1024 * 1024;

/// Listeners of one job at a time.
pub const MAX_LISTENERS: usize = 256;

/// The line that stands where a job's lines were cut.
pub const CUT_MARKER: &str = "[cut       ] cut            : further lines of this job are not kept";

/// The bounds of one set of streams; only tests have others than the default.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) jobs: usize,
    pub(super) lines: usize,
    pub(super) bytes: usize,
    pub(super) listeners: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { jobs: MAX_JOBS, lines: MAX_JOB_LINES, bytes: MAX_JOB_BYTES, listeners: MAX_LISTENERS }
    }
}
