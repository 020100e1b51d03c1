//! Why there is no lease.

use super::share::{Share, size};

/// Most obstacles that one error names.
const NAMED: usize = 8;

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The host lacks it.
    #[error("there is no device {name}; this host has {there}")]
    NoSuchDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// There are GPUs, but none, or too few, that answer to the constraints, whoever holds them.
    #[error("there are not {count} GPUs {what}; this host has {there}")]
    NoSuchSet {
        /// How many were asked for.
        count: usize,
        /// The constraints in words.
        what: String,
        /// What there is.
        there: String,
    },
    /// It has not the memory that the model needs.
    #[error("{device} has {has}, and {needs} are needed")]
    TooSmall {
        /// The device.
        device: String,
        /// What one holder of the share would have, in words.
        has: String,
        /// What is needed, in words.
        needs: String,
    },
    /// Its parts can be leased, and it can't.
    #[error("{device} is cut into MIG parts: lease {parts}")]
    Partitioned {
        /// The device.
        device: String,
        /// Its parts.
        parts: String,
    },
    /// Parts of the request, or the request and the policy, exclude each other.
    #[error("the request contradicts itself: {what}")]
    Contradiction {
        /// How.
        what: String,
    },
    /// The policy gives no GPU.
    #[error("the policy grants no GPU, and {device} is asked for")]
    NotGranted {
        /// What was asked for.
        device: String,
    },
    /// The policy gives GPUs otherwise.
    #[error("a GPU {asked} is asked for, and the policy gives it {allowed}")]
    ShareNotGranted {
        /// What was asked for.
        asked: Share,
        /// What the policy gives.
        allowed: Share,
    },
    /// A share of memory whose total nobody knows.
    #[error("{device} tells no size of its memory, so it can't be shared by memory")]
    MemoryUnknown {
        /// The device.
        device: String,
    },
    /// What is asked for can't be had now.
    #[error("{}", said(.0))]
    Busy(Vec<Obstacle>),
    /// Too many wait already.
    #[error("{0} requests wait for devices already, the most that can")]
    QueueFull(usize),
    /// Too many leases.
    #[error("{0} leases are held without a worker, the most that can be")]
    TooMany(usize),
    /// No lease of this name.
    #[error("there is no lease {0}")]
    NoSuchLease(String),
    /// The lease has a user.
    #[error("lease {lease} is used by worker {worker}")]
    InUse {
        /// The lease.
        lease: String,
        /// The worker.
        worker: String,
    },
}

/// Why one GPU can't be had now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// `GPU-0`.
    pub device: String,
    /// What is in the way.
    pub why: Why,
}

/// What is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// These hold it; each in words.
    Held(Vec<String>),
    /// It is not given out, with the reason.
    Quarantined(String),
    /// No GPU is given out, with the reason.
    Sealed(String),
    /// Who waits longer; in words.
    KeptFor(String),
    /// Processes that are no worker's are on it, and it was not asked for by name.
    Foreign(Vec<i32>),
    /// Somebody uses its memory.
    NoRoom {
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
}

impl LeaseError {
    /// Whether waiting can help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy(_))
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let device = &self.device;
        match &self.why {
            Why::Held(by) => write!(f, "{device} is held by {}", by.join(", ")),
            Why::Quarantined(why) | Why::Sealed(why) => write!(f, "{device} is not given out: {why}"),
            Why::KeptFor(who) => write!(f, "{device} is kept for {who}, which waits longer"),
            Why::Foreign(pids) => {
                let pids = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
                write!(f, "{device} is used by processes of others ({pids}): ask for it by name to have it all the same")
            }
            Why::NoRoom { free, needed } => write!(f, "{device} has {} free, and {} are needed", size(*free), size(*needed)),
        }
    }
}

fn said(obstacles: &[Obstacle]) -> String {
    let mut parts: Vec<String> = obstacles.iter().take(NAMED).map(ToString::to_string).collect();
    if obstacles.len() > NAMED {
        parts.push(format!("so are {} more", obstacles.len() - NAMED));
    }
    parts.join("; ")
}
