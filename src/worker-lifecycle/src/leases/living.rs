//! Leases of workers that have outlived the hive before: held again, under their numbers.

use rbee_hive_devices::{Holder, Share};

use super::record::Open;
use super::{Inside, Leases};

/// What a worker has that was there before this hive, as its plan and its record say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The worker.
    pub(crate) worker: String,
    /// Its lease's number, where it is known.
    pub(crate) lease_id: Option<String>,
    /// How much of each GPU.
    pub(crate) share: Share,
    /// Names of its devices.
    pub(crate) devices: Vec<String>,
}

impl Leases {
    /// Gives each worker that lives what it has; what is left of `open` is nobody's any more. The file knows GPUs by UUID and goes before
    /// the plan, which has them by index.
    pub(super) fn hold_for_the_living(&self, inside: &mut Inside, mut open: Vec<Open>) -> Vec<Open> {
        for held in std::mem::take(&mut inside.living) {
            let own = open.iter().position(|o| !o.external && o.worker.as_deref() == Some(&held.worker));
            match own.map(|index| open.remove(index)) {
                Some(own) => self.hold(inside, &held, (Some(own.lease_id.clone()), own.share, &own.gpus)),
                None => self.hold(inside, &held, (held.lease_id.clone(), held.share, &held.devices)),
            }
        }
        // What was held again before the file could be read is in it, too.
        open.retain(|o| inside.table.lease(&o.lease_id).is_none());
        open
    }

    fn hold(&self, inside: &mut Inside, held: &Held, (id, share, names): (Option<String>, Share, &[String])) {
        let external = id.as_ref().and_then(|id| inside.table.lease(id)).is_some_and(|lease| matches!(lease.holder, Holder::External(_)));
        if let (true, Some(id)) = (external, &id) {
            if let Err(error) = inside.table.use_lease(id, &held.worker) {
                tracing::warn!(worker = held.worker, lease = id, %error, "the lease that a worker runs on can't be had again for it");
            }
            return;
        }
        let gpus: Vec<u32> = names.iter().filter_map(|name| self.gpu_named(name)).collect();
        let missing = names.iter().filter(|name| name.starts_with("GPU-") && self.gpu_named(name).is_none()).count();
        if missing > 0 {
            tracing::warn!(worker = held.worker, missing, "a worker of before the restart has GPUs that are not there any more");
        }
        inside.table.restore_worker((id.as_deref(), &held.worker), (&gpus, share), &held.devices);
    }

    /// By UUID, or `GPU-<index>`.
    fn gpu_named(&self, name: &str) -> Option<u32> {
        let index = || name.strip_prefix("GPU-")?.parse().ok().filter(|n| self.inventory.gpu(*n).is_some());
        self.index(name).or_else(index)
    }
}
