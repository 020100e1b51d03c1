//! The hive's leases: the table under its lock, who waits for an answer, and what is told and kept of it.
//!
//! ```text
//!  worker start ─┐                                     ┌─► events (queued, acquired, released)
//!  lease_acquire ┼─► Leases ── LeaseTable (pure) ──────┼─► hive/leases.json (whole)
//!  ends, watch ──┘      └─ pump after every change ────┴─► who waits
//! ```
//! Must never know: how a client is connected, nor how it is found out that a GPU's memory is back.

mod before;
mod external;
mod record;
mod waiting;
mod watched;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rbee_hive_devices::{
    Asked, Holder, Inventory, Known, Lease, LeaseError, LeaseRequest, LeaseTable, Observation, Obstacle, Proof, Releasing, Served, Share,
    Terms as Bounds, Ticket, Topology,
};
use rbee_hive_policy::{GpuShare, WorkerId};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

pub(crate) use external::waited_in_vain;
pub use external::{ExternalLease, LeaseLife};
pub(crate) use waiting::Waiting;

use crate::channel::lock;
use crate::{About, ErrorKind, EventHub, EventKind, LifecycleError};
use before::Before;
use external::{Enders, Terms};
use record::Record;
use watched::Watched;

/// All leases of a hive. A clone of the `Arc` that it lives in is another handle on it.
#[derive(Debug)]
pub(crate) struct Leases {
    inventory: Inventory,
    inside: Mutex<Inside>,
    events: Arc<EventHub>,
    record: Option<Record>,
    watched: Watched,
    /// Something that outlives a restart is otherwise than it was written.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inside {
    table: LeaseTable,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Lease, LeaseError>>>,
    /// What is known of external leases beside the table.
    external: HashMap<String, (Terms, Enders)>,
    /// Whether the file of before could not be read.
    sealed: bool,
    /// What was read and nobody has taken over yet.
    before: Before,
    /// What the watch over the GPUs knows, as it last said.
    known: BTreeMap<u32, Known>,
    /// What it is to go on from.
    to_watch: Option<BTreeMap<u32, Known>>,
    /// GPUs that somebody says were reset.
    were_reset: BTreeSet<u32>,
}

impl Leases {
    /// Empty, or with the external leases of before a restart, where `directory` has them.
    pub(crate) fn open(inventory: Inventory, events: Arc<EventHub>, directory: Option<Arc<OwnedFd>>) -> Arc<Self> {
        let record = directory.map(Record::new);
        let leases =
            Arc::new(Self { inventory, inside: Mutex::default(), events, record, watched: Watched::default(), changed: Arc::default() });
        if let Err(error) = leases.read_back() {
            leases.seal_until_it_is_read(&error);
        }
        leases
    }

    /// Every device with its leases and what was last seen of it.
    pub(crate) fn topology(&self, seen: &Observation) -> Topology {
        self.inventory.topology(&lock(&self.inside).table, seen)
    }

    /// A lease, or a place in line.
    pub(crate) fn ask(self: &Arc<Self>, request: LeaseRequest) -> Result<Outcome, LeaseError> {
        let holder = request.holder.clone();
        let mut inside = lock(&self.inside);
        match inside.table.ask(&self.inventory, request)? {
            Asked::Granted(lease) => {
                self.tell_granted(&lease);
                Ok(Outcome::Granted(lease))
            }
            Asked::Queued { ticket, busy } => {
                let (tell, answer) = oneshot::channel();
                inside.waiting.insert(ticket, tell);
                let data = json!({"act": "queued", "holder": holder.name(), "waiting": inside.table.waiting(), "why": busy.to_string()});
                self.tell(&holder, data);
                Ok(Outcome::Queued(Waiting::new(Arc::clone(self), ticket, answer), busy))
            }
        }
    }

    /// What would come of `act` if a worker had gone, with its memory back. Nothing changes.
    pub(crate) fn if_gone<T>(&self, worker: &WorkerId, act: impl FnOnce(&mut LeaseTable, &Inventory) -> T) -> T {
        let mut table = lock(&self.inside).table.without(worker.as_str());
        act(&mut table, &self.inventory)
    }

    /// Whether memory of a lease is awaited.
    pub(crate) fn is_releasing(&self, lease_id: &str) -> bool {
        lock(&self.inside).table.awaited().iter().any(|(id, _)| id == lease_id)
    }

    /// Lets a worker run on somebody's lease.
    pub(crate) fn use_lease(&self, id: &str, worker: &WorkerId) -> Result<Lease, LeaseError> {
        let lease = lock(&self.inside).table.use_lease(id, worker.as_str())?;
        self.changed.notify_one();
        let data = json!({"act": "used", "lease_id": id, "holder": lease.holder.name(), "devices": lease.devices});
        self.tell(&Holder::Worker(worker.to_string()), data);
        Ok(lease)
    }

    /// Whether a lease is as large as these terms want it, and no more than they allow.
    pub(crate) fn suits(&self, lease: &Lease, terms: &Bounds) -> Result<(), LeaseError> {
        lock(&self.inside).table.suits(&self.inventory, lease, terms)
    }

    /// A worker is gone, its cgroup empty. Where nothing measures GPU memory its GPUs are free at once.
    pub(crate) fn release_worker(&self, worker: &WorkerId) {
        let mut inside = lock(&self.inside);
        if let Some(releasing) = inside.table.begin_release(worker.as_str()) {
            self.changed.notify_one();
            self.wait_for_memory(&mut inside, &releasing);
        }
    }

    /// A start that came to nothing: no process has had the GPU, so there is nothing to wait for.
    pub(crate) fn forget(&self, worker: &WorkerId) {
        let mut inside = lock(&self.inside);
        if let Some(releasing) = inside.table.begin_release(worker.as_str()) {
            self.end(&mut inside, &releasing);
        }
    }

    /// Takes the lease off the table, and serves who waits.
    fn end(&self, inside: &mut Inside, Releasing { lease_id, gpus }: &Releasing) {
        let holder = inside.table.lease(lease_id).map(|l| (l.holder.clone(), l.devices.clone()));
        for gpu in gpus {
            inside.table.finish_release(lease_id, *gpu, Proof::NotMeasured);
        }
        self.changed.notify_one();
        if let Some((holder, devices)) = holder {
            let data = json!({"act": "released", "lease_id": lease_id, "holder": holder.name(), "devices": devices,
                "memory": Proof::NotMeasured});
            self.tell(&holder, data);
        }
        self.pump(inside);
    }

    /// Serves who waits. Under the lock, so that nobody comes between.
    fn pump(&self, inside: &mut Inside) {
        for Served { ticket, outcome } in inside.table.pump(&self.inventory) {
            let Some(tell) = inside.waiting.remove(&ticket) else { continue };
            if let Ok(lease) = &outcome {
                self.tell_granted(lease);
            }
            // Who has left in this moment has not taken its place out of the line yet: it gives the lease back when it does.
            let _ = tell.send(outcome);
        }
    }

    /// Gives a place in line up. Both halves of it under one lock: nobody is served between them, whom nobody would tell.
    fn cancel(&self, ticket: Ticket) {
        let mut inside = lock(&self.inside);
        inside.waiting.remove(&ticket);
        inside.table.cancel(ticket);
        self.pump(&mut inside);
    }

    /// A lease that was granted to somebody who had left.
    fn undo(&self, lease: &Lease) {
        let mut inside = lock(&self.inside);
        let releasing = match &lease.holder {
            Holder::Worker(name) => inside.table.begin_release(name),
            Holder::External(_) => inside.table.give_back(&lease.id).ok().flatten(),
        };
        if let Some(releasing) = releasing {
            self.end(&mut inside, &releasing);
        }
    }

    fn tell_granted(&self, lease: &Lease) {
        self.changed.notify_one();
        let data = json!({"act": "acquired", "lease_id": lease.id, "holder": lease.holder.name(), "devices": lease.devices,
            "share": lease.gpus().next().map(|_| lease.share)});
        self.tell(&lease.holder, data);
    }

    fn tell(&self, holder: &Holder, data: Value) {
        let worker_id = match holder {
            Holder::Worker(name) => WorkerId::parse(name).ok(),
            Holder::External(_) => None,
        };
        self.events.tell(EventKind::Lease, About { worker_id, ..About::default() }, data);
    }
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It has a lease.
    Granted(Lease),
    /// It waits, for this.
    Queued(Waiting, LeaseError),
}

/// The policy's share as the table has it.
pub(crate) fn share_of(share: GpuShare) -> Share {
    match share {
        GpuShare::Exclusive => Share::Exclusive,
        GpuShare::Ways(n) => Share::Ways(n),
        GpuShare::Memory(bytes) => Share::Memory(bytes),
    }
}

/// The table's share as the launcher has it.
pub(crate) fn as_policy_has_it(share: Share) -> GpuShare {
    match share {
        Share::Exclusive => GpuShare::Exclusive,
        Share::Ways(n) => GpuShare::Ways(n),
        Share::Memory(bytes) => GpuShare::Memory(bytes),
    }
}

/// A refusal of the table's.
pub(crate) fn refused(error: &LeaseError) -> LifecycleError {
    let (kind, hint) = match error {
        LeaseError::NoSuchDevice { .. } | LeaseError::NoSuchSet { .. } | LeaseError::Partitioned { .. } => {
            (ErrorKind::NoSuchDevice, "`rbee-hive devices` lists what there is")
        }
        LeaseError::TooSmall { .. } => (ErrorKind::NoSuchDevice, "choose a larger GPU, or a smaller model"),
        LeaseError::Contradiction { .. } => (ErrorKind::InvalidParams, "leave one of the two out"),
        LeaseError::NotGranted { .. } => (ErrorKind::PolicyViolation, "use a policy with gpus = \"leased\""),
        LeaseError::ShareNotGranted { .. } => (ErrorKind::PolicyViolation, "the policy's [devices] share says how a GPU is shared"),
        LeaseError::MemoryUnknown { .. } => (ErrorKind::NotEnforceable, "share it by ways instead"),
        LeaseError::Busy(obstacles) => (ErrorKind::DeviceBusy, busy_hint(obstacles)),
        LeaseError::QueueFull(_) => (ErrorKind::AtCapacity, "try again later"),
        LeaseError::TooMany(_) => (ErrorKind::AtCapacity, "give leases back with lease_release"),
        LeaseError::NoSuchLease(_) => (ErrorKind::NotFound, "`lease_list` tells which there are"),
        LeaseError::InUse { .. } => (ErrorKind::NotAllowedNow, "stop the worker first"),
    };
    LifecycleError { hint: Some(hint.into()), ..LifecycleError::new(kind, error.to_string()) }
}

fn busy_hint(obstacles: &[Obstacle]) -> &'static str {
    use rbee_hive_devices::Why;
    if obstacles.iter().any(|o| matches!(o.why, Why::Sealed(_))) {
        return "make the file readable, or remove it when nobody uses the GPUs: it is looked at every few seconds";
    }
    match obstacles.iter().find(|o| matches!(o.why, Why::Quarantined(_))) {
        Some(_) if obstacles.len() == 1 => {
            "it is given out again when it answers as it should, and where it has to be reset, after device_heal; choose another one meanwhile"
        }
        _ => "stop a holder, or wait in line with when_busy \"queue\"",
    }
}

impl Drop for Leases {
    /// Who writes changes down sees that there are none any more.
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod before_tests;
#[cfg(test)]
mod tests;
