//! Whether an ended holder's memory is back. A process that is gone gives it back soon, not at once; some is never given back.
//!
//! ```text
//!  awaited ──nothing is left──► back
//!     └──deadline──► leaked ──nothing is left──► (whole again)
//! ```
//! What a GPU has in use while nobody holds it, and none of anybody's processes is on it, is remembered: back is what comes down to that.
//! Where that is not known, or others hold the GPU too, back is when the driver lists none of the holder's processes any more. Whose
//! processes those of a holder are that is no worker is not known: of him that is no measurement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Finding, Known, Look};
use crate::{GpuProcess, Proof};

/// What a driver's own use may differ by from one idle moment to another.
const TOLERANCE: u64 = 128 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Release {
    /// Bytes in use when nobody held it.
    idle: Option<u64>,
    /// Processes that each worker has had on it.
    former: BTreeMap<String, BTreeSet<i32>>,
    /// Leases whose memory did not come back, with their workers.
    leaked: BTreeMap<String, Option<String>>,
}

impl Release {
    /// `deadline`: how long memory may take to come back.
    pub(super) fn step(&mut self, look: Look<'_>, deadline: Duration, found: &mut Vec<Finding>) {
        let holders = look.holders();
        let awaited = look.scene.awaited.get(&look.gpu);
        self.remember(look, &holders);
        let others = !holders.is_empty();
        for (lease, waiting) in awaited.into_iter().flatten() {
            let after = look.scene.now.saturating_sub(waiting.since);
            match self.left(look, waiting.worker.as_deref(), others) {
                Ok(proof) => found.push(Finding::Back { gpu: look.gpu, lease: lease.clone(), after, proof }),
                Err(why) if after >= deadline => {
                    if self.leaked.insert(lease.clone(), waiting.worker.clone()).is_none() {
                        found.push(Finding::Leaked { gpu: look.gpu, lease: lease.clone(), why });
                    }
                }
                Err(_) => {}
            }
        }
        let mut leaked = std::mem::take(&mut self.leaked);
        leaked.retain(|_, worker| self.left(look, worker.as_deref(), others).is_err());
        self.leaked = leaked;
        let waiting = awaited.into_iter().flatten().filter_map(|(_, waiting)| waiting.worker.clone());
        let needed: BTreeSet<String> = holders.into_iter().chain(waiting).chain(self.leaked.values().flatten().cloned()).collect();
        self.former.retain(|worker, _| needed.contains(worker));
    }

    /// Whether something that did not come back in time is still away.
    pub(super) fn is_leaked(&self) -> bool {
        !self.leaked.is_empty()
    }

    pub(super) fn known(&self) -> Known {
        Known { idle: self.idle, former: self.former.clone(), leaked: self.leaked.clone(), ..Known::default() }
    }

    pub(super) fn restore(&mut self, Known { idle, former, leaked, .. }: Known) {
        (self.idle, self.former, self.leaked) = (idle, former, leaked);
    }

    fn remember(&mut self, look: Look<'_>, holders: &BTreeSet<String>) {
        if look.seen.silent.is_some() {
            return;
        }
        let nothing_missing = self.leaked.is_empty() && look.scene.awaited.get(&look.gpu).is_none_or(BTreeMap::is_empty);
        // Memory that a process of an external holder's has left behind is in use, too, and no process's.
        let nobodys_else = nothing_missing && !look.scene.lent.contains(&look.gpu);
        let processes = look.seen.processes.as_deref().unwrap_or_default();
        match (look.seen.memory_used_bytes, &look.seen.processes) {
            (Some(used), Some(listed)) if nobodys_else && holders.is_empty() && listed.is_empty() => self.idle = Some(used),
            // Where no process is listed somebody may be there at any time: the least that was ever in use is the driver's own.
            (Some(used), None) if nobodys_else && holders.is_empty() => self.idle = Some(self.idle.map_or(used, |idle| idle.min(used))),
            // Somebody was faster than the first look: what is no process's is the driver's own.
            (Some(used), Some(listed)) if nobodys_else && self.idle.is_none() => {
                self.idle = sum(listed.iter()).map(|theirs| used.saturating_sub(theirs));
            }
            _ => {}
        }
        for process in processes {
            if let Some(owner) = look.scene.owners.get(&process.pid) {
                self.former.entry(owner.clone()).or_default().insert(process.pid);
            }
        }
    }

    /// How it is known that nothing of the worker is left, or what is.
    fn left(&self, look: Look<'_>, worker: Option<&str>, others: bool) -> Result<Proof, String> {
        if let Some(why) = &look.seen.silent {
            return Err(format!("the GPU does not answer ({why})"));
        }
        let former = worker.and_then(|worker| self.former.get(worker));
        let listed = look.seen.processes.as_deref().unwrap_or_default();
        // A number that is a live worker's by now has been given anew.
        let gone = |pid: &i32| former.is_some_and(|f| f.contains(pid)) && !look.scene.owners.contains_key(pid);
        let still: Vec<i32> = listed.iter().map(|p| p.pid).filter(gone).collect();
        if !still.is_empty() {
            return Err(format!("the driver still lists its processes {still:?}"));
        }
        // Memory of others can't be told from what leaked, unless the driver says how much each of them has.
        // One that has ended is nobody's any more, whether it was seen in its life or not.
        let living = listed.iter().filter(|p| !look.scene.ended.contains(&p.pid));
        match (look.seen.memory_used_bytes, self.idle, sum(living)) {
            (Some(used), Some(idle), Some(theirs)) if !others => {
                let expected = idle.saturating_add(theirs).saturating_add(TOLERANCE);
                if used > expected {
                    return Err(format!("{used} bytes are in use, {idle} were before and {theirs} are other processes'"));
                }
                Ok(Proof::Measured)
            }
            // That a worker is listed no more is seen, if processes are listed at all.
            _ if worker.is_some() && look.seen.processes.is_some() => Ok(Proof::Measured),
            _ => Ok(Proof::NotMeasured),
        }
    }
}

/// What these processes have together; `None` where the driver does not tell of one.
fn sum<'p>(mut processes: impl Iterator<Item = &'p GpuProcess>) -> Option<u64> {
    processes.try_fold(0u64, |sum, p| sum.checked_add(p.memory_bytes?))
}
