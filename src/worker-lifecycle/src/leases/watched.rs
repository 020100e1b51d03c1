//! The part of the leases that the watch over the GPUs moves: memory that is back, devices out of use and in use again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rbee_hive_devices::{Awaited, Holder, Lease, Observation, Proof, Releasing};
use serde_json::json;
use tokio::sync::Notify;

use super::{Inside, Leases};
use crate::channel::lock;

/// Whether somebody looks whether memory is back, and how that is woken.
#[derive(Debug, Default)]
pub(super) struct Watched {
    is: AtomicBool,
    begun: Notify,
}

impl Leases {
    /// From now on GPUs stay held until the watch has seen their memory to be back.
    ///
    /// Called inside the runtime.
    pub(crate) fn watch(self: &Arc<Self>) {
        self.watched.is.store(true, Ordering::SeqCst);
        self.settle(&mut lock(&self.inside));
        if self.record.is_some() {
            self.write_changes();
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched.is.load(Ordering::SeqCst)
    }

    /// Whether there is anything to look at.
    pub(crate) fn have_gpus(&self) -> bool {
        !self.inventory.gpus.is_empty()
    }

    /// Has the next look made at once.
    pub(super) fn look_soon(&self) {
        self.watched.begun.notify_one();
    }

    /// Waits until a lease has begun to wait for its memory.
    pub(crate) async fn until_something_is_awaited(&self) {
        self.watched.begun.notified().await;
    }

    /// A holder has gone. Who watches the GPUs ends its lease; where nobody does, it ends at once.
    pub(super) fn wait_for_memory(&self, inside: &mut Inside, releasing: &Releasing) {
        if self.is_watched() && !releasing.gpus.is_empty() {
            self.watched.begun.notify_one();
        } else {
            self.end(inside, releasing);
        }
    }

    /// Leases whose memory is awaited, with the time since when; `before` is what was known of them, `now` the time of the others.
    pub(crate) fn awaited(
        &self,
        before: &BTreeMap<u32, BTreeMap<String, Awaited>>,
        now: Duration,
    ) -> BTreeMap<u32, BTreeMap<String, Awaited>> {
        let inside = lock(&self.inside);
        let mut awaited: BTreeMap<u32, BTreeMap<String, Awaited>> = BTreeMap::new();
        for (lease, gpu) in inside.table.awaited() {
            let known = before.get(&gpu).and_then(|leases| leases.get(&lease)).cloned();
            let worker = || inside.table.lease(&lease).and_then(worker).map(str::to_owned);
            let waiting = known.unwrap_or_else(|| Awaited { worker: worker(), since: now });
            awaited.entry(gpu).or_default().insert(lease, waiting);
        }
        awaited
    }

    /// Workers that hold each GPU, and GPUs that somebody holds who is no worker.
    pub(crate) fn held(&self) -> (BTreeMap<u32, BTreeSet<String>>, BTreeSet<u32>) {
        let inside = lock(&self.inside);
        let awaited: BTreeSet<(String, u32)> = inside.table.awaited().into_iter().collect();
        let (mut holders, mut lent): (BTreeMap<u32, BTreeSet<String>>, BTreeSet<u32>) = Default::default();
        for (gpu, part) in self.inventory.gpus.iter().map(|gpu| (gpu.index, &gpu.mig)) {
            for lease in inside.table.on(gpu) {
                match worker(lease) {
                    _ if awaited.contains(&(lease.id.clone(), gpu)) => {}
                    Some(name) => drop(holders.entry(gpu).or_default().insert(name.to_owned())),
                    // A driver lists who is on a part on the whole GPU, too.
                    None => lent.extend([Some(gpu), part.as_ref().map(|part| part.parent)].into_iter().flatten()),
                }
            }
        }
        (holders, lent)
    }

    /// Takes over what is in use: who asks for memory is answered by it.
    pub(crate) fn observed(&self, observation: &Observation) {
        let mut inside = lock(&self.inside);
        for (gpu, seen) in &observation.gpus {
            inside.table.observe(*gpu, seen.memory_used_bytes.filter(|_| seen.silent.is_none()));
        }
        self.pump(&mut inside);
    }

    /// The memory of a lease is back on one of its GPUs.
    pub(crate) fn back(&self, (lease_id, gpu): (&str, u32), after: Duration, proof: Proof) {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.ended((lease_id, gpu), json!({"memory": proof, "after_ms": after_ms}), |inside| {
            inside.table.finish_release(lease_id, gpu, proof);
        });
    }

    /// It did not come back in time.
    pub(crate) fn leaked(&self, (lease_id, gpu): (&str, u32), why: &str) {
        self.ended((lease_id, gpu), json!({"memory": "leaked", "why": why}), |inside| inside.table.leaked(lease_id, gpu, why));
    }

    fn ended(&self, (lease_id, gpu): (&str, u32), mut data: serde_json::Value, end: impl FnOnce(&mut Inside)) {
        let mut inside = lock(&self.inside);
        let Some(holder) = inside.table.lease(lease_id).map(|lease| lease.holder.clone()) else { return };
        end(&mut inside);
        self.changed.notify_one();
        data["act"] = "released".into();
        data["lease_id"] = lease_id.into();
        data["holder"] = holder.name().into();
        data["devices"] = json!([format!("GPU-{gpu}")]);
        self.tell(&holder, data);
        self.pump(&mut inside);
    }

    /// Nobody gets it until it is healed.
    pub(crate) fn quarantine(&self, gpu: u32, why: &str) {
        lock(&self.inside).table.quarantine(gpu, why);
        self.changed.notify_one();
    }

    /// It is given out again.
    pub(crate) fn heal(&self, gpu: u32) {
        let mut inside = lock(&self.inside);
        if inside.table.heal(gpu) {
            self.changed.notify_one();
            self.pump(&mut inside);
        }
    }

    /// Processes on it that are no worker's.
    pub(crate) fn set_foreign(&self, gpu: u32, pids: BTreeSet<i32>) {
        let mut inside = lock(&self.inside);
        inside.table.set_foreign(gpu, pids);
        self.pump(&mut inside);
    }
}

/// The worker that runs on a lease.
pub(super) fn worker(lease: &Lease) -> Option<&str> {
    match &lease.holder {
        Holder::Worker(name) => Some(name),
        Holder::External(_) => lease.used_by(),
    }
}
