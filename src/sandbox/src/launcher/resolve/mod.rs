//! Host facts for one request: what the names in a policy and a request are on this machine, now.

pub(super) mod abilities;
pub(super) mod binary;
pub(super) mod devices;
pub(super) mod gpu_memory;
pub(super) mod identity;
pub(super) mod idmap;
pub(super) mod lease;
pub(super) mod limits;
pub(super) mod model;
pub(super) mod paths;
pub(super) mod rootfs;
