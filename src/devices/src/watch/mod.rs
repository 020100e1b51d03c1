//! What follows from what is observed of GPUs: pure, one step for each observation.
//!
//! ```text
//!  Observation ─┬─► health   silent, answering again, faults      drained ⇄ whole
//!    + Scene    ├─► foreign  processes that are no worker's
//!               ├─► release  memory of an ended holder            back, or leaked after a deadline
//!               └─► budget   memory of a worker over its limit    told, then to be stopped
//! ```
//! Nothing is concluded from what was not told. Must never know: who carries out what is found, nor what a process is.

mod budget;
mod foreign;
mod health;
mod known;
mod release;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use budget::Budget;
pub use known::Known;
pub use usage::Usage;

use crate::{GpuObservation, Observation, Proof, XidClass};

/// What is known beside an observation, at the same moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// Time since the watch began.
    pub now: Duration,
    /// Workers that hold each GPU; those whose memory is awaited do not.
    pub holders: BTreeMap<u32, BTreeSet<String>>,
    /// GPUs that somebody holds who is no worker: whose processes are on them is not told.
    pub lent: BTreeSet<u32>,
    /// Leases of each GPU whose memory is awaited, by their ids.
    pub awaited: BTreeMap<u32, BTreeMap<String, Awaited>>,
    /// Whose process each is, of those that are on GPUs; one that is not here is no worker's.
    pub owners: BTreeMap<i32, String>,
    /// Processes that have ended since the observation.
    pub ended: BTreeSet<i32>,
    /// Limits of GPU memory that nothing but this watch holds.
    pub budgets: BTreeMap<String, Budget>,
}

/// An ended holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The worker that ran on the lease, if one did.
    pub worker: Option<String>,
    /// When it had ended.
    pub since: Duration,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It does not answer, or has a fault of its own: nobody new gets it. Told again where it turns out that only a reset mends it.
    Drained {
        /// Index.
        gpu: u32,
        /// One clause.
        why: String,
    },
    /// It answers again, and everything is back.
    Healed {
        /// Index.
        gpu: u32,
    },
    /// The driver told of a fault.
    Fault {
        /// Index.
        gpu: u32,
        /// Its number in NVIDIA's list.
        code: u32,
        /// Whose fault.
        class: XidClass,
        /// One clause.
        meaning: &'static str,
        /// The process that it was blamed on.
        pid: Option<i32>,
        /// Who it concerns: the process's worker where that is known, else all holders.
        workers: Vec<String>,
    },
    /// Other processes than workers' are on it than before; none: it is theirs alone again.
    Foreign {
        /// Index.
        gpu: u32,
        /// Their numbers.
        pids: BTreeSet<i32>,
    },
    /// An ended holder's memory is back.
    Back {
        /// Index.
        gpu: u32,
        /// The lease.
        lease: String,
        /// How long it took.
        after: Duration,
        /// How that is known.
        proof: Proof,
    },
    /// It is not, and the deadline is over.
    Leaked {
        /// Index.
        gpu: u32,
        /// The lease.
        lease: String,
        /// What is still there.
        why: String,
    },
    /// A worker has more than its limit on a GPU.
    Over {
        /// The worker.
        worker: String,
        /// Index.
        gpu: u32,
        /// Bytes.
        used: u64,
        /// Bytes.
        limit: u64,
    },
    /// It is within its limit again.
    Within {
        /// The worker.
        worker: String,
    },
    /// It has been over its limit for too long and is to be stopped.
    Exceeded {
        /// The worker.
        worker: String,
        /// Index.
        gpu: u32,
        /// Bytes.
        used: u64,
        /// Bytes.
        limit: u64,
    },
}

/// How long is waited before the worst is concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For an ended holder's memory; after that the GPU is taken out of use.
    pub memory_back: Duration,
    /// For a worker that is over its limit of GPU memory; after that it is to be stopped.
    pub over_limit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { memory_back: Duration::from_secs(30), over_limit: Duration::from_secs(10) }
    }
}

/// What is remembered between observations.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    patience: Patience,
    gpus: BTreeMap<u32, Remembered>,
    budgets: budget::Budgets,
}

/// Of one GPU.
#[derive(Clone, Debug, Default)]
struct Remembered {
    health: health::Health,
    foreign: foreign::Foreign,
    release: release::Release,
}

impl Watch {
    /// One that has seen nothing yet.
    pub fn new(patience: Patience) -> Self {
        Self { patience, ..Self::default() }
    }

    /// One step. A GPU that the observation leaves out was not looked at: nothing follows for it.
    pub fn step(&mut self, observation: &Observation, scene: &Scene) -> Vec<Finding> {
        let mut found = Vec::new();
        for (gpu, seen) in &observation.gpus {
            let remembered = self.gpus.entry(*gpu).or_default();
            let look = Look { gpu: *gpu, seen, scene };
            let before = remembered.is_out_of_use();
            remembered.health.step(look, &mut found);
            // A silent one tells nothing of its processes and memory, whatever else stands there.
            if seen.silent.is_none() {
                remembered.foreign.step(look, &mut found);
            }
            remembered.release.step(look, self.patience.memory_back, &mut found);
            if before && !remembered.is_out_of_use() {
                found.push(Finding::Healed { gpu: *gpu });
            }
        }
        let usage = Usage::of(observation, &scene.owners);
        self.budgets.step((&usage, self.patience.over_limit), scene, &mut found);
        found
    }

    /// Processes on a GPU that are no worker's, as last found.
    pub fn foreign(&self, gpu: u32) -> BTreeSet<i32> {
        self.gpus.get(&gpu).map(|r| r.foreign.told().clone()).unwrap_or_default()
    }
}

impl Remembered {
    fn is_out_of_use(&self) -> bool {
        self.health.is_drained() || self.release.is_leaked()
    }
}

/// One GPU at one moment.
#[derive(Clone, Copy)]
struct Look<'a> {
    gpu: u32,
    seen: &'a GpuObservation,
    scene: &'a Scene,
}

impl Look<'_> {
    fn holders(&self) -> BTreeSet<String> {
        self.scene.holders.get(&self.gpu).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
