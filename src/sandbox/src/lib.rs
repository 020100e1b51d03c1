//! Launcher, init and cgroups: carries a `SandboxPlan` out and takes it down again.
//!
//! ```text
//!  hive ──ToLauncher──► launcher ──clone3──► init (PID 1 of the sandbox) ──clone3──► worker
//!       ◄─FromLauncher─           hive ◄──FromInit / ToInit──►
//! ```
//! Must never know: JSON-RPC, HTTP, what a worker means.
#![forbid(unsafe_code)]

pub mod cgroup;
mod init;
pub mod launcher;
mod mount_tree;
pub mod oom;
pub mod protocol;
mod publish;
pub mod run;
mod seccomp;
mod step;
mod streams;
mod verdict;
pub mod verify;

pub use oom::{OomBound, OomScope, Victim};
pub use step::CallError;
pub use verdict::{SetupFailure, StoppedBy, Verdict};
