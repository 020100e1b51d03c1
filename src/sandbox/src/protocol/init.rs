//! hive ⇄ init. The channel is also the lifeline: its end tells each side that the other is gone.

use serde::{Deserialize, Serialize};

use rbee_hive_policy::learn::Observations;

use super::{Inside, IoBytes, Made, MemoryPressure, OomKills, ProcessIo, Resources};
use crate::{SetupFailure, StoppedBy, Verdict};

/// What the hive asks of an init.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ToInit {
    /// Unconnected TCP sockets born in the worker's network namespace.
    Sockets {
        /// Answer's number.
        seq: u64,
        /// How many, at most [`super::MAX_FDS`].
        count: usize,
    },
    /// A connection to the worker's Unix socket, made with the worker's uid.
    ConnectUnix {
        /// Answer's number.
        seq: u64,
    },
    /// A signal to the worker's own process.
    Signal {
        /// Number.
        signal: i32,
    },
    /// Stop: the policy's signal, the grace time, then the whole cgroup. A second one can only hasten.
    Stop {
        /// Who asks.
        by: StoppedBy,
        /// Milliseconds; 0 kills at once.
        grace_ms: u64,
    },
    /// What the sandbox was when it had just been made.
    Made {
        /// Answer's number.
        seq: u64,
    },
    /// What can be seen of the sandbox from within, now.
    Inspect {
        /// Answer's number.
        seq: u64,
    },
    /// What the sandbox's processes have read from and written to block devices, for a host whose cgroups do not count it.
    Io {
        /// Answer's number.
        seq: u64,
    },
    /// The same of each process.
    ProcessIo {
        /// Answer's number.
        seq: u64,
    },
    /// Let the worker's processes stand still. Answered once they do.
    Freeze {
        /// Answer's number.
        seq: u64,
    },
    /// Let them run again.
    Thaw {
        /// Answer's number.
        seq: u64,
    },
    /// Take memory back that the worker's cgroup can do without for now: page cache, and the rest to swap.
    Reclaim {
        /// Answer's number.
        seq: u64,
    },
    /// The worker's limits were changed: what tells of want of memory is to follow. One that comes in vain does no harm.
    Limits,
    /// The verdict has arrived: the init may exit.
    Ack,
}

/// What an init says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum FromInit {
    /// `execve` has succeeded. Descriptors: the worker's pidfd.
    Started {
        /// Start time of the worker's own process, clock ticks after boot (`/proc/<pid>/stat` field 22), by the init's view.
        start_ticks: Option<u64>,
    },
    /// A step failed; the init exits after this.
    SetupFailed(SetupFailure),
    /// `execve` failed; the init exits after this.
    ExecFailed {
        /// `errno(3)` number.
        errno: i32,
        /// Path and error text.
        message: String,
    },
    /// Answer to `Sockets`, with as many descriptors.
    Sockets {
        /// The request's number.
        seq: u64,
    },
    /// Answer to `ConnectUnix`, with one descriptor.
    Connected {
        /// The request's number.
        seq: u64,
    },
    /// Answer to `Sockets` or `ConnectUnix` that failed.
    ConnectFailed {
        /// The request's number.
        seq: u64,
        /// `errno(3)` number.
        errno: i32,
    },
    /// Answer to `Made`.
    Made {
        /// The request's number.
        seq: u64,
        /// As it was.
        made: Box<Made>,
    },
    /// Answer to `Inspect`.
    Inspected {
        /// The request's number.
        seq: u64,
        /// As it is.
        inside: Box<Inside>,
    },
    /// Answer to `Io`.
    Io {
        /// The request's number.
        seq: u64,
        /// `None` where a process keeps its figures to itself.
        bytes: Option<IoBytes>,
    },
    /// Answer to `ProcessIo`.
    ProcessIo {
        /// The request's number.
        seq: u64,
        /// Those that can be seen, at most a bounded number.
        processes: Vec<ProcessIo>,
    },
    /// Answer to `Freeze` or `Thaw`: it is so.
    Settled {
        /// The request's number.
        seq: u64,
    },
    /// Answer to `Reclaim`.
    Reclaimed {
        /// The request's number.
        seq: u64,
        /// By how much the cgroup's memory has shrunk, bytes; `None` where that is not counted.
        bytes: Option<u64>,
    },
    /// Answer to `Freeze`, `Thaw` or `Reclaim` that failed. A worker that could not be frozen whole runs again.
    NotDone {
        /// The request's number.
        seq: u64,
        /// `errno(3)` number: `ENOTSUP` where the host has nothing to do it with, `EBUSY` where a process waits in the kernel (state D) and
        /// does not freeze, `EALREADY` where the worker is being stopped or the like.
        errno: i32,
    },
    /// The worker spoke by sd_notify.
    Notify {
        /// The datagram's text, `NAME=value` lines.
        text: String,
    },
    /// The worker is short of memory.
    Pressure {
        /// By what, and the figures.
        pressure: MemoryPressure,
    },
    /// The kernel has killed processes of the worker for want of memory; whether it goes on is another matter.
    OomKills {
        /// How many, and whom.
        kills: OomKills,
    },
    /// A part of what a watched worker did (`policy learn`); all parts come before the end.
    Observed {
        /// The part.
        part: Box<Observations>,
    },
    /// The worker has ended and its cgroup is empty. The init waits a moment for [`ToInit::Ack`], then exits.
    Ended {
        /// How.
        verdict: Verdict,
        /// Last counters.
        resources: Box<Resources>,
    },
}
