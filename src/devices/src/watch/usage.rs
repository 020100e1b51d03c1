//! Which worker has how much of which GPU's memory, by its processes.

use std::collections::{BTreeMap, BTreeSet};

use crate::Observation;

/// Bytes by worker and GPU. `None`: the driver did not tell of one of its processes, so that no sum is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    by_worker: BTreeMap<String, BTreeMap<u32, Option<u64>>>,
    /// GPUs whose processes were listed.
    listed: BTreeSet<u32>,
}

impl Usage {
    /// The sums of an observation.
    pub fn of(observation: &Observation, owners: &BTreeMap<i32, String>) -> Self {
        let mut usage = Self::default();
        let answering = observation.gpus.iter().filter(|(_, seen)| seen.silent.is_none());
        for (gpu, processes) in answering.filter_map(|(gpu, seen)| Some((gpu, seen.processes.as_ref()?))) {
            usage.listed.insert(*gpu);
            for process in processes {
                let Some(worker) = owners.get(&process.pid) else { continue };
                let sum = usage.by_worker.entry(worker.clone()).or_default().entry(*gpu).or_insert(Some(0));
                *sum = sum.zip(process.memory_bytes).and_then(|(a, b)| a.checked_add(b));
            }
        }
        usage
    }

    /// Of one worker on one GPU: 0 where it was listed and the worker has no process on it.
    pub fn on(&self, worker: &str, gpu: u32) -> Option<u64> {
        let own = self.by_worker.get(worker).and_then(|gpus| gpus.get(&gpu));
        own.copied().unwrap_or_else(|| self.listed.contains(&gpu).then_some(0))
    }

    /// Of one worker on all of `gpus` together; `None` where one of them is not known.
    pub fn total(&self, worker: &str, gpus: &[u32]) -> Option<u64> {
        gpus.iter().try_fold(0u64, |sum, gpu| sum.checked_add(self.on(worker, *gpu)?))
    }
}
