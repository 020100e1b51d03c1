//! GPUs that others than workers use: given to who names them, and to nobody else.

use std::collections::BTreeSet;

use super::{LeaseTable, Obstacle, Why};
use crate::Gpu;

impl LeaseTable {
    /// Processes on a GPU that are no worker's; none: there are none any more. The owner pumps the queue afterwards.
    pub fn set_foreign(&mut self, gpu: u32, pids: BTreeSet<i32>) {
        match pids.is_empty() {
            true => self.foreign.remove(&gpu),
            false => self.foreign.insert(gpu, pids),
        };
    }

    /// Processes on a GPU that are no worker's.
    pub fn foreign(&self, gpu: u32) -> impl Iterator<Item = i32> {
        self.foreign.get(&gpu).into_iter().flatten().copied()
    }

    /// What stands in the way of a GPU that was not asked for by name.
    pub(super) fn stranger(&self, gpu: &Gpu) -> Option<Obstacle> {
        let pids: Vec<i32> = self.foreign(gpu.index).collect();
        (!pids.is_empty()).then(|| Obstacle { device: format!("GPU-{}", gpu.index), why: Why::Foreign(pids) })
    }
}
