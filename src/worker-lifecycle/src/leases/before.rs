//! What was so before a restart, and what is written down for the next one.
//!
//! ```text
//!  hive/leases.json ──read──► external leases: held again    leases of who went with the hive: their memory is awaited
//!          ▲                  GPUs out of use: so again       what the watch knew: it goes on from that
//!          └──── written after every change ◄───────────────
//! ```
//! Workers do not outlive their hive: whatever they held is awaited. Nobody's GPU is taken for free because its holder is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rbee_hive_devices::{Ended, Gpu, Holder, Inventory, Known, Lease};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::external::{Enders, Terms};
use super::record::{Kept, OfGpu, Open, State};
use super::{Inside, Leases, watched};
use crate::channel::lock;
use crate::{ErrorKind, LifecycleError};

/// Where names of devices are to be had.
const LIST: &str = "`rbee-hive devices` lists what there is";
/// How often a file is looked at that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// What was read and only a watch over the GPUs can make use of: without one nothing would ever end it.
#[derive(Debug, Default)]
pub(super) struct Before {
    open: Vec<Open>,
    gpus: BTreeMap<String, OfGpu>,
}

impl Leases {
    /// What was held before a restart and has not run out is held again. Called inside the runtime.
    ///
    /// Errors: there is a file, and it can't be read.
    pub(super) fn read_back(self: &Arc<Self>) -> io::Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let State { given, leases, open, gpus } = record.read()?;
        let mut inside = lock(&self.inside);
        inside.table.seal(None);
        inside.sealed = false;
        inside.table.continue_after(given);
        let (lasting, ended): (Vec<Kept>, Vec<Kept>) =
            leases.into_iter().partition(|kept| kept.expires.is_none_or(|at| at > SystemTime::now()));
        let again: Vec<(String, Terms)> = lasting.iter().filter_map(|kept| self.hold_again(&mut inside, kept)).collect();
        let in_use = lasting.into_iter().filter(|kept| kept.used_by.is_some());
        let open = open.into_iter().chain(ended.into_iter().chain(in_use).map(Open::from)).collect();
        inside.before = Before { open, gpus };
        if self.is_watched() {
            self.settle(&mut inside);
        }
        self.pump(&mut inside);
        drop(inside);
        again.iter().for_each(|(id, terms)| self.expire(id, *terms));
        Ok(())
    }

    /// Nobody gets a GPU while it is not known who had it, and the file stays as it is.
    pub(super) fn seal_until_it_is_read(self: &Arc<Self>, error: &io::Error) {
        tracing::error!(%error, "the leases of before the restart can't be read: no GPU is given out until the file is readable or gone");
        {
            let mut inside = lock(&self.inside);
            inside.sealed = true;
            inside.table.seal(Some(format!("who had it before the restart is not known, for hive/leases.json can't be read: {error}")));
        }
        let leases = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(READ_AGAIN).await;
                let Some(leases) = leases.upgrade() else { return };
                if let Ok(Ok(())) = spawn_blocking(move || leases.read_back()).await {
                    tracing::warn!("the leases of before the restart are read, or their file is gone: GPUs are given out again");
                    return;
                }
            }
        });
    }

    fn hold_again(&self, inside: &mut Inside, kept: &Kept) -> Option<(String, Terms)> {
        let Some(indices) = self.indices(&kept.gpus) else {
            tracing::warn!(lease = kept.lease_id, "a lease of before the restart is on a GPU that is not there any more: it is gone");
            return None;
        };
        let restored = inside.table.restore(&self.inventory, (&kept.lease_id, &kept.holder), (&indices, kept.share));
        if let Err(error) = restored {
            tracing::warn!(lease = kept.lease_id, %error, "a lease of before the restart can't be had again");
            return None;
        }
        let terms = Terms { expires: kept.expires, bound: false };
        inside.external.insert(kept.lease_id.clone(), (terms, Enders::default()));
        Some((kept.lease_id.clone(), terms))
    }

    /// Takes over what only a watch can end.
    pub(super) fn settle(&self, inside: &mut Inside) {
        let Before { open, gpus } = std::mem::take(&mut inside.before);
        for Open { lease_id, external, holder, worker, gpus, share } in open {
            let here: Vec<u32> = gpus.iter().filter_map(|gpu| self.index(gpu)).collect();
            match (inside.external.contains_key(&lease_id), &worker) {
                // Its holder has it still; the worker that ran on it has gone.
                (true, Some(worker)) => drop(inside.table.use_lease(&lease_id, worker).map(|_| inside.table.begin_release(worker))),
                (true, None) => {}
                (false, _) if here.is_empty() => {}
                (false, _) => {
                    let (holder, user) = if external { (Holder::External(holder), worker) } else { (Holder::Worker(holder), None) };
                    inside.table.restore_ended(&Ended { id: lease_id, holder, user, gpus: here, share });
                }
            }
        }
        let mut known = BTreeMap::new();
        for (name, of) in gpus {
            let Some(gpu) = self.index(&name) else { continue };
            let entry: &mut Known = known.entry(gpu).or_insert(of.known);
            if let Some(was) = of.out_of_use {
                inside.table.restore_out_of_use(gpu, &was);
                // What the watch does not know to be out of use it would never heal.
                if was.leaked && entry.leaked.is_empty() {
                    entry.leaked.insert("before".into(), None);
                }
                entry.drained |= !was.leaked;
            }
        }
        inside.known.clone_from(&known);
        inside.to_watch = Some(known);
    }

    /// What the watch is to go on from, once.
    pub(crate) fn known_before(&self) -> Option<BTreeMap<u32, Known>> {
        lock(&self.inside).to_watch.take()
    }

    /// What the watch knows now.
    pub(crate) fn keep_known(&self, known: BTreeMap<u32, Known>) {
        let mut inside = lock(&self.inside);
        // What was read meanwhile goes before.
        if inside.to_watch.is_none() && inside.known != known {
            inside.known = known;
            self.changed.notify_one();
        }
    }

    /// Somebody says that a GPU was reset; `name` as in a request.
    ///
    /// Errors: `no_such_device`; `not_allowed_now` where nobody looks at the GPUs, so that none is ever out of use.
    pub(crate) fn was_reset(&self, name: &str) -> Result<(), LifecycleError> {
        let named =
            |gpu: &&Gpu| name == format!("GPU-{}", gpu.index) || gpu.uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(name));
        let Some(gpu) = self.inventory.gpus.iter().find(named) else {
            let text = format!("there is no GPU {name:?} here");
            return Err(LifecycleError { hint: Some(LIST.into()), ..LifecycleError::new(ErrorKind::NoSuchDevice, text) });
        };
        if !self.is_watched() {
            return Err(LifecycleError::new(ErrorKind::NotAllowedNow, "nobody watches the GPUs, and none is out of use"));
        }
        // A reset is the whole GPU's, and its parts were out of use with it.
        let with_it = self.inventory.gpus.iter().filter(|g| g.index == gpu.index || g.mig.as_ref().is_some_and(|m| m.parent == gpu.index));
        lock(&self.inside).were_reset.extend(with_it.map(|g| g.index));
        self.look_soon();
        Ok(())
    }

    /// GPUs that were reset since this was asked last.
    pub(crate) fn were_reset(&self) -> BTreeSet<u32> {
        std::mem::take(&mut lock(&self.inside).were_reset)
    }

    /// Writes every change down, soon after it, as long as there are leases to write.
    pub(super) fn write_changes(self: &Arc<Self>) {
        let (leases, changed) = (Arc::downgrade(self), Arc::clone(&self.changed));
        tokio::spawn(async move {
            let mut failed = false;
            loop {
                changed.notified().await;
                let Some(leases) = leases.upgrade() else { return };
                match leases.write_off_thread().await {
                    Err(error) if !failed => tracing::error!(%error, "after a restart it will not be known who has which GPU"),
                    outcome => failed = outcome.is_err(),
                }
            }
        });
    }

    pub(super) async fn write_off_thread(self: &Arc<Self>) -> io::Result<()> {
        let leases = Arc::clone(self);
        spawn_blocking(move || leases.write()).await.unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    /// The file as it is to be after a change.
    fn write(&self) -> io::Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        if lock(&self.inside).sealed {
            return Err(io::Error::other("the file of before the restart can't be read, and is not written over"));
        }
        record.write(|| self.state(&lock(&self.inside)))
    }

    fn state(&self, inside: &Inside) -> State {
        let lasting = |lease: &&Lease| inside.external.get(&lease.id).is_some_and(|(terms, _)| !terms.bound);
        let (kept, open): (Vec<&Lease>, Vec<&Lease>) =
            inside.table.all().filter(|lease| lasting(lease) || lease.gpus().next().is_some()).partition(lasting);
        let terms = |lease: &Lease| inside.external.get(&lease.id).and_then(|(terms, _)| terms.expires);
        let gpus = self.inventory.gpus.iter().map(|gpu| gpu.index).filter_map(|gpu| {
            let of = OfGpu { out_of_use: inside.table.out_of_use(gpu), known: inside.known.get(&gpu).cloned().unwrap_or_default() };
            (of != OfGpu::default()).then(|| (self.name(gpu), of))
        });
        State {
            given: inside.table.given(),
            leases: kept.into_iter().map(|lease| self.kept(lease, terms(lease))).collect(),
            open: open.into_iter().map(|lease| self.open_lease(lease)).collect(),
            gpus: gpus.collect(),
        }
    }

    fn kept(&self, lease: &Lease, expires: Option<SystemTime>) -> Kept {
        let used_by = lease.used_by().map(str::to_owned);
        let Open { lease_id, holder, gpus, share, .. } = self.open_lease(lease);
        Kept { lease_id, holder, gpus, share, expires, used_by }
    }

    fn open_lease(&self, lease: &Lease) -> Open {
        Open {
            lease_id: lease.id.clone(),
            external: matches!(lease.holder, Holder::External(_)),
            holder: lease.holder.name().to_owned(),
            worker: watched::worker(lease).map(str::to_owned),
            gpus: lease.gpus().map(|gpu| self.name(gpu)).collect(),
            share: lease.share,
        }
    }

    /// By UUID where it has one: an index can be another GPU's after a restart.
    fn name(&self, gpu: u32) -> String {
        self.inventory.gpu(gpu).and_then(|g| g.uuid.clone()).unwrap_or_else(|| format!("GPU-{gpu}"))
    }

    fn index(&self, name: &str) -> Option<u32> {
        let Inventory { gpus, .. } = &self.inventory;
        gpus.iter().find(|gpu| self.name(gpu.index) == name).map(|gpu| gpu.index)
    }

    fn indices(&self, names: &[String]) -> Option<Vec<u32>> {
        names.iter().map(|name| self.index(name)).collect()
    }
}

impl From<Kept> for Open {
    fn from(Kept { lease_id, holder, gpus, share, used_by, .. }: Kept) -> Self {
        Self { lease_id, external: true, holder, worker: used_by, gpus, share }
    }
}
