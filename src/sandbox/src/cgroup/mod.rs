//! The hive's own cgroup subtree: one root in every hierarchy in use, two leaves a worker, and what is read from them.
//!
//! ```text
//!  <mount>/<root>/hive                      the hive and its launcher
//!                /workers/w-<id>            weights: what workers are weighed against one another by
//!                /workers/w-<id>/init       a small fixed limit
//!                /workers/w-<id>/worker     the policy's other limits and device list
//! ```
//! [`Tree`] belongs to the launcher, [`WorkerLeaf`] (descriptors only) to a worker's init, [`read_resources`] and [`LeafReader`] to the hive.
//! Must never know: policies, requests, what a worker means.

mod check;
mod counters;
mod delegate;
mod detect;
mod device_policy;
mod error;
mod files;
mod interface;
mod leaf;
mod leaves;
mod limits;
mod memory_events;
mod named;
mod nested;
mod pressure;
mod protection;
mod reader;
mod removal;
mod root;
pub mod text;
mod tree;
mod update;
mod values;
mod writes;

#[cfg(test)]
mod pressure_tests;
#[cfg(test)]
mod privileged_tests;
#[cfg(test)]
mod protection_tests;
#[cfg(test)]
mod test_tree;
#[cfg(test)]
mod weight_tests;

pub use check::belongs;
pub(crate) use check::{Membership, limit_holds, membership, read_device_list, read_limit};
pub use counters::{Unmeasured, read_resources, unmeasured};
pub(crate) use device_policy::device_list_differs;
pub use error::{CgroupError, LeafError};
pub use leaf::WorkerLeaf;
pub use leaves::Leaves;
pub(crate) use memory_events::MemoryEvents;
pub(crate) use pressure::{SETTING as MEMORY_PRESSURE, Source as MemorySource, Tells, Told};
pub use reader::{Descriptors, LeafReader};
pub use removal::Removal;
pub use tree::Tree;
pub use update::BelowUse;
pub(crate) use update::{Cause, Change, ChangeError};
