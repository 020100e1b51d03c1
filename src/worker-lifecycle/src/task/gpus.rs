//! What is known of a worker's GPUs beside its view: the watch over them says it, and whoever asks reads it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use rbee_hive_policy::{GpuMemoryEnforcer, GpuMemoryPlan};

use crate::channel::lock;
use crate::view::now;
use crate::{GpuMemoryView, Incident};

/// Incidents of a worker that are kept.
const MAX_INCIDENTS: usize = 64;

/// A worker's GPUs.
#[derive(Debug, Default)]
pub(crate) struct GpusKnown {
    /// Its limit of memory.
    pub(crate) limit: OnceLock<GpuMemoryPlan>,
    /// Whether its MPS daemon has ended before it.
    mps_ended: AtomicBool,
    /// Bytes that it was last seen to have, if that is known.
    used: Mutex<Option<u64>>,
    /// What has happened, the last ones.
    incidents: Mutex<VecDeque<Incident>>,
}

impl GpusKnown {
    /// Takes over what was seen.
    pub(crate) fn set_used(&self, used: Option<u64>) {
        *lock(&self.used) = used;
    }

    /// Use and limit of memory, as clients see them.
    pub(crate) fn memory(&self) -> GpuMemoryView {
        let limit = self.limit.get();
        GpuMemoryView {
            used_bytes: *lock(&self.used),
            limit_bytes: limit.map(|limit| limit.limit_bytes),
            enforced_by: limit.and_then(|limit| limit.enforced_by).map(|by| match by {
                // The watch goes on.
                GpuMemoryEnforcer::Mps if self.mps_ended.load(Ordering::SeqCst) => GpuMemoryEnforcer::Soft,
                by => by,
            }),
        }
    }

    /// MPS holds it no more; whether that is news.
    pub(crate) fn lose_mps(&self) -> bool {
        !self.mps_ended.swap(true, Ordering::SeqCst)
    }

    /// Keeps what happened; the oldest goes where there are many.
    pub(crate) fn add_incident(&self, text: &str) {
        let mut incidents = lock(&self.incidents);
        if incidents.len() >= MAX_INCIDENTS {
            incidents.pop_front();
        }
        incidents.push_back(Incident { time: now(), text: text.to_owned() });
    }

    /// What has happened, the oldest first.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        lock(&self.incidents).iter().cloned().collect()
    }
}
