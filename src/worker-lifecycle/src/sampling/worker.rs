//! What is kept of one worker between two samples: its reader, its last figures, its history.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rbee_hive_sandbox::cgroup::LeafReader;
use rbee_hive_sandbox::protocol::{IoBytes, Resources};

use super::Sampler;
use super::counts::PATIENCE;
use super::ring::Ring;
use super::sample::{Reading, Sample};
use crate::channel::lock;

/// How old figures of a list may be, milliseconds.
const RECENT_MS: u64 = 1000;

/// How new figures have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Read for whoever asks.
    Now,
    /// At most a second old: one of many, as in a list.
    Recent,
}

/// One worker's part of the sampler. It lives as long as the worker is listed.
#[derive(Debug, Default)]
pub(crate) struct Sampled(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reader: Option<LeafReader>,
    /// The last sample's, from which the next one's rates are worked out.
    sampled: Option<Reading>,
    /// The last ones that anybody read.
    seen: Option<Reading>,
    /// The last that its init has counted by process.
    io: Option<Counted>,
    /// CPU time that it had used when its init was asked for that.
    asked_at_cpu: Option<u64>,
    /// When it is to be asked again.
    io_due_ms: u64,
    ring: Ring,
}

/// What an init has counted by process.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at_ms: u64,
    bytes: IoBytes,
    /// CPU time that its worker had used before that.
    cpu: Option<u64>,
}

/// What a history is told from.
pub(super) struct Kept {
    pub(super) samples: Vec<Sample>,
    /// The figures of the last one.
    pub(super) last: Option<Resources>,
}

impl Sampled {
    /// The figures of its leaf. Blocks: reads cgroup files.
    pub(crate) fn figures(&self, sampler: &Sampler, (leaf, freshness): (&str, Freshness)) -> Resources {
        let mut inner = lock(&self.0);
        match inner.seen {
            Some(seen) if freshness == Freshness::Recent && sampler.is_recent(seen.at_ms, RECENT_MS) => seen.resources,
            _ => inner.read(sampler, leaf).resources,
        }
    }

    /// What its init has counted a moment ago.
    pub(crate) fn recent_io(&self, sampler: &Sampler) -> Option<IoBytes> {
        lock(&self.0).io.filter(|counted| sampler.is_recent(counted.at_ms, RECENT_MS)).map(|counted| counted.bytes)
    }

    /// Keeps what its init has counted, if it has; it is not asked for history's sake before `pause` has passed.
    pub(super) fn keep_io(&self, sampler: &Sampler, (bytes, pause): (Option<IoBytes>, Duration)) {
        let (mut inner, now_ms) = (lock(&self.0), sampler.now_ms());
        inner.io_due_ms = now_ms.saturating_add(millis(pause));
        if let Some(bytes) = bytes {
            inner.io = Some(Counted { at_ms: now_ms, bytes, cpu: inner.asked_at_cpu });
        }
    }

    /// Whether its init is to be asked now for what no cgroup counts; who is told so asks it.
    pub(super) fn lacks_a_count(&self, sampler: &Sampler) -> bool {
        let (mut inner, now_ms) = (lock(&self.0), sampler.now_ms());
        let Some(last) = inner.sampled.filter(|last| last.io_by_process && inner.reader.is_some() && inner.io_due_ms <= now_ms) else {
            return false;
        };
        let due = !inner.io.is_some_and(|counted| counted.holds(&last.resources));
        if due {
            inner.asked_at_cpu = last.resources.cpu_usage_usec;
            // Nobody asks a second time while it counts.
            inner.io_due_ms = now_ms.saturating_add(millis(PATIENCE));
        }
        due
    }

    /// Takes a sample. Blocks: reads cgroup files.
    pub(super) fn sample(&self, sampler: &Sampler, (leaf, memory_limit): (&str, Option<u64>)) {
        let mut inner = lock(&self.0);
        let now = inner.read(sampler, leaf);
        if now.resources == Resources::default() {
            // Gone between two looks, or not there yet: a gap.
            inner.sampled = None;
            return;
        }
        if let Some(counted) = inner.io.as_mut().filter(|counted| counted.holds(&now.resources)) {
            counted.at_ms = now.at_ms;
        }
        let now = now.with_io(inner.io.map(|counted| (counted.at_ms, counted.bytes)));
        let sample = Sample::of(&now, inner.sampled.as_ref(), memory_limit);
        inner.sampled = Some(now);
        inner.ring.push(sample, sampler.slot_ms());
    }

    /// Gives its descriptors back; the history stays. Of a worker that has ended.
    pub(crate) fn end(&self, sampler: &Sampler) {
        let mut inner = lock(&self.0);
        inner.reader = None;
        inner.ring.coarsen(sampler.slot_ms());
    }

    /// Forgets everything. Of a worker that was deleted.
    pub(crate) fn forget(&self) {
        *lock(&self.0) = Inner::default();
    }

    /// Its samples later than `after_ms`.
    pub(super) fn kept(&self, after_ms: Option<u64>) -> Kept {
        let inner: MutexGuard<'_, Inner> = lock(&self.0);
        Kept { samples: inner.ring.after(after_ms), last: inner.sampled.map(|reading| reading.resources) }
    }
}

impl Counted {
    /// Whether it is what would be counted now: whoever has not run has read and written nothing.
    fn holds(&self, now: &Resources) -> bool {
        self.cpu.is_some() && self.cpu == now.cpu_usage_usec
    }
}

impl Inner {
    fn read(&mut self, sampler: &Sampler, leaf: &str) -> Reading {
        let reader = match &mut self.reader {
            Some(reader) if reader.leaf() == leaf => reader,
            other => other.insert(sampler.reader(leaf)),
        };
        let reading = Reading::new(sampler.now_ms(), reader.read());
        self.seen = Some(reading);
        reading
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
