//! Figures of all workers, taken in one pass a second, and what they were in the last ten minutes.
//!
//! ```text
//!  every sample_interval ──► one blocking task ──► each living worker: kept descriptors ──► figures
//!                                                     │                                     ├──► what a list tells for a second
//!                                                     └── rates since the sample before ────┴──► ring: 10 min, 67 KB, until it is deleted
//!  some inits, not waited for ──► block I/O by process ┘ where no cgroup counts it
//! ```
//! A pass takes at most a twentieth of one CPU: where it takes longer, the next one comes later. Memory is bounded: [`MAX_SAMPLES`] in all
//! rings together; with more workers than that is enough for, samples lie farther apart and keep their maxima. Must never know: who asks,
//! what a worker is for.

mod counts;
mod history;
mod ring;
mod sample;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rbee_hive_policy::{LimitKey, LimitValue};
use rbee_hive_sandbox::cgroup::{Descriptors, LeafReader};
use rbee_hive_sandbox::protocol::CgroupFacts;
use tokio::time::Instant;

pub(crate) use counts::count;
pub use history::{HistoryRange, WorkerHistory};
pub(crate) use worker::{Freshness, Sampled};

use crate::WorkerRegistry;
use crate::task::WorkerHandle;
use counts::Turns;
use history::Clocks;
use ring::{MOST, WINDOW_MS};

/// Samples in all rings together: 67 MB, which is a sample a second of a thousand workers.
const MAX_SAMPLES: u64 = 600_000;
/// Most descriptors that are kept for reading, whatever the limit on them is.
const MAX_DESCRIPTORS: usize = 32_768;
/// The part of the process's descriptors that may be kept for it.
const SHARE: usize = 4;
/// A pass is followed by at least that many times its own length.
const REST: u32 = 20;

/// Takes samples, and knows their time.
#[derive(Debug)]
pub(crate) struct Sampler {
    facts: Arc<CgroupFacts>,
    descriptors: Arc<Descriptors>,
    interval: Duration,
    begun: Instant,
    /// How far apart samples are kept, milliseconds.
    slot_ms: AtomicU64,
}

impl Sampler {
    pub(crate) fn new(facts: Arc<CgroupFacts>, interval: Duration) -> Self {
        let slot_ms = AtomicU64::new(base_slot(interval));
        Self { facts, descriptors: Descriptors::share(SHARE, MAX_DESCRIPTORS), interval, begun: Instant::now(), slot_ms }
    }

    /// Milliseconds since it began, by a clock that nobody sets.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A worker's history. Blocks for a moment at most.
    pub(crate) fn history(&self, (worker_id, sampled): (&str, &Sampled), range: HistoryRange) -> WorkerHistory {
        let clocks = Clocks { now_ms: self.now_ms(), wall: jiff::Timestamp::now() };
        let mut kept = sampled.kept(range.since.map(|since| clocks.own(since)));
        let (samples, part_ms) = history::thin(std::mem::take(&mut kept.samples), range.max_points.unwrap_or(usize::MAX));
        kept.samples = samples;
        history::tell(worker_id, &kept, (clocks, part_ms.max(self.slot_ms())), &self.facts)
    }

    /// Takes a sample of each that lives. Blocks: reads some files of each.
    fn pass(&self, workers: &[WorkerHandle]) {
        self.slot_ms.store(slot(workers.len(), self.interval), Ordering::Relaxed);
        for worker in workers {
            let view = worker.view.borrow();
            let memory_limit = match view.limits.get(&LimitKey::MemoryMax) {
                Some(LimitValue::Count(bytes)) if view.not_in_force.iter().all(|n| n.setting != "memory_max") => Some(*bytes),
                _ => None,
            };
            let leaf = view.cgroup.path.clone().filter(|_| !view.has_ended());
            // Before the files are read: nobody shall wait for them who shows a change.
            drop(view);
            match leaf {
                Some(leaf) => worker.known.sampled.sample(self, (&leaf, memory_limit)),
                None => worker.known.sampled.end(self),
            }
        }
    }

    fn slot_ms(&self) -> u64 {
        self.slot_ms.load(Ordering::Relaxed)
    }

    fn is_recent(&self, at_ms: u64, within_ms: u64) -> bool {
        self.now_ms().saturating_sub(at_ms) <= within_ms
    }

    fn reader(&self, leaf: &str) -> LeafReader {
        LeafReader::new(Arc::clone(&self.facts), leaf, Arc::clone(&self.descriptors))
    }
}

/// Samples until the registry is gone.
pub(crate) async fn run(sampler: Arc<Sampler>, registry: Weak<WorkerRegistry>) {
    let mut pause = sampler.interval;
    let mut turns = Turns::default();
    loop {
        tokio::time::sleep(pause).await;
        let Some(workers) = registry.upgrade().map(|registry| registry.handles()) else { return };
        pause = sampler.interval;
        if workers.is_empty() {
            continue;
        }
        turns.ask(&sampler, &workers);
        let passing = Arc::clone(&sampler);
        let pass = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            passing.pass(&workers);
            began.elapsed()
        });
        if let Ok(took) = pass.await {
            pause = pause.max(took.saturating_mul(REST));
        }
    }
}

/// A sample a second at most: a shorter interval makes figures newer, and peaks are seen that a second would hide.
fn base_slot(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).clamp(WINDOW_MS / (MOST as u64 - 1), WINDOW_MS)
}

/// How far apart samples of so many workers are kept, milliseconds.
fn slot(workers: usize, interval: Duration) -> u64 {
    let mut slot = base_slot(interval);
    while workers as u64 * (WINDOW_MS / slot) > MAX_SAMPLES && slot < WINDOW_MS {
        slot *= 2;
    }
    slot
}
