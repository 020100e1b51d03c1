//! Workers from request to verdict: registry, ports, readiness, supervision.
//!
//! ```text
//!  spawn ──► admission (id, lease, port) ──► worker task ──► launcher ──► init ──► probes ──► ready
//!                                                │  one task owns one worker; others send commands and watch its view
//!                                                └── ended: verdict, cgroup removed, port and lease given back
//! ```
//! Must never know: JSON-RPC, HTTP routes, system calls.
#![forbid(unsafe_code)]

mod channel;
mod device_watch;
mod error;
mod events;
mod explanation;
mod idle;
mod init_link;
mod launcher;
mod leases;
mod logs;
mod mps;
mod params;
mod processes;
mod reach;
mod readiness;
mod registry;
mod sampling;
mod spawner;
mod state;
mod task;
#[cfg(test)]
mod tests;
mod verifier;
mod view;

pub use device_watch::{DeviceWatch, Observe, Patience};
pub use error::{ErrorKind, LifecycleError};
pub use events::{About, EventHub, EventKind, Feed, Filter, HiveEvent};
pub use explanation::{Explanation, LimitOrigin, LimitView, PolicyExplanation};
pub use launcher::LauncherClient;
pub use leases::{ExternalLease, LeaseLife};
pub use params::{ClientGone, SpawnParams, WaitFor};
pub use registry::{NoFreePort, PortLease, RegistryError, WorkerEntry, WorkerRegistry, WorkerStatus};
pub use sampling::{HistoryRange, WorkerHistory};
pub use spawner::{SpawnerOptions, WorkerSpawner};
pub use view::{
    CgroupView, GpuMemoryView, Incident, LogLine, LogPage, ProcessView, VerdictView, VerifiedView, WorkerFilter, WorkerState, WorkerView,
};
