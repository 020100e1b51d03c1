//! What is known of a GPU that nobody can see who looks at it for the first time: it outlives a restart.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Watch;

/// Of one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// Bytes in use when nobody held it.
    pub idle: Option<u64>,
    /// Processes that each worker has had on it that holds it, or whose memory is awaited.
    pub former: BTreeMap<String, BTreeSet<i32>>,
    /// Leases whose memory did not come back, each with its worker.
    pub leaked: BTreeMap<String, Option<String>>,
    /// Whether it did not answer, or has had a fault of its own.
    pub drained: bool,
    /// Whether that was a fault that only a reset mends.
    pub needs_reset: bool,
}

impl Watch {
    /// What is known now, of GPUs that were looked at.
    pub fn known(&self) -> BTreeMap<u32, Known> {
        let of = |remembered: &super::Remembered| {
            let mut known = remembered.release.known();
            (known.drained, known.needs_reset) = (remembered.health.is_drained(), remembered.health.needs_reset());
            known
        };
        self.gpus.iter().map(|(gpu, remembered)| (*gpu, of(remembered))).collect()
    }

    /// Somebody says that a GPU was reset, or needs no reset.
    pub fn was_reset(&mut self, gpu: u32) {
        if let Some(remembered) = self.gpus.get_mut(&gpu) {
            remembered.health.was_reset();
        }
    }

    /// Goes on from what was known before.
    pub fn restore(&mut self, known: BTreeMap<u32, Known>) {
        for (gpu, known) in known {
            let remembered = self.gpus.entry(gpu).or_default();
            remembered.health.restore((known.drained, known.needs_reset));
            remembered.release.restore(known);
        }
    }
}
