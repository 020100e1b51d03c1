//! When a worker is idle, and which one makes room: decisions over figures, without effects.
//!
//! ```text
//!  forwarder: connections, bytes ──►┐
//!  cgroup: CPU time ───────────────►│ Watch ──► idle for how long ──► reclaim, freeze, stop (the worker's task)
//!                                   └─────────────────────────────► choose: which one goes for a new one (the spawner)
//! ```
//! Connections to a worker in the host's network are not seen: it is idle by its CPU time alone. Must never know: tasks, channels.

mod notes;
mod warm;
mod watch;

pub(crate) use notes::notes;
pub(crate) use warm::{Choice, Warm, choose};
pub(crate) use watch::{Look, Watch};
