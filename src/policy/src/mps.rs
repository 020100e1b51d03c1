//! MPS between hive, launcher and init: who is a daemon, who a client of which, and why not.
//!
//! Must never know: what a daemon and its clients are told (that is compiled), nor how a daemon is started.

use serde::{Deserialize, Serialize};

use crate::{OnHiveExit, Policy, WorkerId};

/// The policy of MPS control daemons; no worker runs under it.
pub const MPS_POLICY: &str = "mps";

/// Which MPS daemon a worker is to be a client of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MpsWish {
    /// The one of this name, which the hive has seen to answer.
    Server(WorkerId),
    /// None: it could not be had.
    None {
        /// One clause for a person.
        why: String,
    },
}

/// A sandbox's part in MPS. Server and clients of a group have one `/dev/shm`, with the server's sockets in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MpsPlan {
    /// It is the group's daemon.
    Server,
    /// It is a client.
    Client {
        /// Of this daemon.
        server: WorkerId,
        /// Index of the opened tree that is its `/dev/shm`.
        shm: usize,
    },
}

/// What there is of MPS for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MpsFacts {
    /// A daemon that answers, and the group's `/dev/shm` among the opened trees.
    There {
        /// The daemon.
        server: WorkerId,
        /// Index of the tree.
        shm: usize,
        /// Bytes of the group's `/dev/shm`.
        shm_size: u64,
    },
    /// None.
    Missing {
        /// One clause for a person.
        why: String,
    },
}

impl Default for MpsFacts {
    fn default() -> Self {
        Self::Missing { why: "nobody has started an MPS daemon for it".into() }
    }
}

/// Why a worker under `policy` can be no client of an MPS daemon, whatever the host has.
pub fn mps_obstacle(policy: &Policy) -> Option<&'static str> {
    match (policy.worker.on_hive_exit, policy.credentials.user.as_str()) {
        (OnHiveExit::Keep, _) => Some("the worker outlives the hive and its MPS daemon does not: say worker.on_hive_exit = \"kill\""),
        (_, "user-namespace") => Some("a worker in a user namespace of its own has no MPS server: say credentials.user = \"per-worker\""),
        _ => None,
    }
}
