//! Out of memory: what the kernel's log says of it, and what follows for the verdict.
//!
//! ```text
//!  /dev/kmsg ──record──► what was said ──book──► kills of one worker ──┐
//!  counters of the leaf, before and after ─────────────────────────────┴──judge──► finding
//! ```
//! Owns the reading and the deciding. Must never know: how a worker is watched or stopped.

mod book;
mod judge;
mod log;
mod record;
mod score;
mod settle;

use serde::{Deserialize, Serialize};

pub(crate) use book::KillBook;
pub(crate) use judge::{Evidence, Finding, MainEnd, judge};
pub(crate) use log::KernelLog;
pub use record::{Said, parse as parse_record};
pub use score::spare;
pub(crate) use score::{is_spared, ordinary_child};
pub(crate) use settle::{Kept, Settled};

/// Who ran out of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OomBound {
    /// The worker, at its own limit.
    Worker,
    /// A group that was made below the worker's, at that one's limit.
    Nested,
    /// The host, or a group above the worker's: the worker had not reached its own limit.
    Host,
}

/// What of the worker was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OomScope {
    /// Its own process.
    Main,
    /// All of its processes.
    Group,
    /// Another of its processes; the worker was stopped for it, as its policy says.
    Child,
}

/// A process that the kernel killed for want of memory, by the kernel's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Its number as the host sees it.
    pub pid: i32,
    /// Its name (`comm`), control characters escaped.
    pub name: String,
    /// What it had in memory, bytes: anonymous, of files, and shared.
    pub memory: u64,
    /// Who ran out; `None` where the log does not say.
    pub bound: Option<OomBound>,
}
