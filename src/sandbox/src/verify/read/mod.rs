//! The reading halves: from `/proc` and cgroup files to observations. Every file and every list has a bound.
//!
//! Must never know: what was planned.

pub(crate) mod inside;
pub(crate) mod mounts;
pub(crate) mod outside;
mod process;
pub(crate) mod status;
