//! Processes on a GPU that are no worker's. Told, not ended: the machine is its owner's.

use std::collections::BTreeSet;

use super::{Finding, Look};

#[derive(Clone, Debug, Default)]
pub(super) struct Foreign {
    /// Of the last look.
    seen: BTreeSet<i32>,
    /// In two looks in a row, and told.
    told: BTreeSet<i32>,
}

impl Foreign {
    /// A process may begin or end between the driver's answer and the look at whose it is: what is told was so twice.
    pub(super) fn step(&mut self, look: Look<'_>, found: &mut Vec<Finding>) {
        let Some(processes) = &look.seen.processes else { return };
        let strange = |pid: &i32| !look.scene.owners.contains_key(pid) && !look.scene.ended.contains(pid);
        let expected = look.scene.lent.contains(&look.gpu);
        let now: BTreeSet<i32> = processes.iter().map(|p| p.pid).filter(|pid| !expected && strange(pid)).collect();
        let sure: BTreeSet<i32> = now.iter().filter(|pid| self.seen.contains(pid)).copied().collect();
        // One that is gone is gone at once.
        let lasting: BTreeSet<i32> = self.told.intersection(&now).copied().chain(sure).collect();
        self.seen = now;
        if lasting != self.told {
            self.told.clone_from(&lasting);
            found.push(Finding::Foreign { gpu: look.gpu, pids: lasting });
        }
    }

    pub(super) fn told(&self) -> &BTreeSet<i32> {
        &self.told
    }
}
