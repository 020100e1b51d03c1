//! Giving back: a GPU is free once its memory is back, and not before.

use serde::Serialize;

use super::holder::Hold;
use super::{Holder, Lease, LeaseError, LeaseTable};
use crate::Gpu;

/// A lease whose holder has gone, with the GPUs whose memory is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Releasing {
    /// The lease.
    pub lease_id: String,
    /// Indices; none where the lease is gone already.
    pub gpus: Vec<u32>,
}

/// Whether anybody has seen that the memory is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It was measured.
    Measured,
    /// Nothing measures it here.
    NotMeasured,
}

/// Why a GPU is not given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) why: String,
    pub(super) leaked: bool,
}

/// A GPU as the table sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuState {
    /// Anybody may have it.
    Free,
    /// Somebody has all of it.
    Leased,
    /// Somebody has a part of it.
    Shared,
    /// A holder has gone, and its memory is not back.
    Releasing,
    /// A holder has gone, and its memory did not come back in time.
    VramLeaked,
    /// It is not given out.
    Quarantined,
    /// Its MIG parts are leased instead.
    Partitioned,
}

impl LeaseTable {
    /// A worker is gone, its cgroup empty: its GPUs wait for their memory. Those of a lease that it only used go back to the holder then.
    /// `None` where it has nothing.
    pub fn begin_release(&mut self, worker: &str) -> Option<Releasing> {
        let held = |l: &&Lease| !l.is_releasing() && matches!(&l.holder, Holder::Worker(name) if name == worker);
        let used = |l: &&Lease| !l.is_releasing() && l.user.as_deref() == Some(worker);
        let id = self.leases.values().find(|l| held(l) || used(l))?.id.clone();
        Some(self.start_releasing(id))
    }

    /// The holder of an external lease gives it back. A worker that runs on it keeps it until it has ended.
    ///
    /// Errors: no such lease; a worker's.
    pub fn give_back(&mut self, id: &str) -> Result<Option<Releasing>, LeaseError> {
        let lease = self.leases.get_mut(id).filter(|l| !l.abandoned).ok_or_else(|| LeaseError::NoSuchLease(id.to_owned()))?;
        if let Holder::Worker(worker) = &lease.holder {
            return Err(LeaseError::InUse { lease: id.to_owned(), worker: worker.clone() });
        }
        lease.abandoned = true;
        let used = lease.user.is_some();
        Ok((!used).then(|| self.start_releasing(id.to_owned())))
    }

    pub(super) fn start_releasing(&mut self, id: String) -> Releasing {
        let Some(lease) = self.leases.get_mut(&id) else { return Releasing { lease_id: id, gpus: vec![] } };
        lease.gpus.values_mut().for_each(|hold| *hold = Hold::Releasing);
        let gpus: Vec<u32> = lease.gpus().collect();
        if gpus.is_empty() {
            self.after_release(&id);
        }
        Releasing { lease_id: id, gpus }
    }

    /// The memory of a GPU that a lease had is back. The owner pumps the queue afterwards.
    pub fn finish_release(&mut self, id: &str, gpu: u32, proof: Proof) {
        if self.end_hold(id, gpu) {
            self.last_proof.insert(gpu, proof);
        }
    }

    /// The memory did not come back in time: the GPU is not given out until it is healed.
    pub fn leaked(&mut self, id: &str, gpu: u32, why: impl Into<String>) {
        if self.end_hold(id, gpu) {
            self.conditions.insert(gpu, Condition { why: why.into(), leaked: true });
        }
    }

    /// Whether it was being released.
    fn end_hold(&mut self, id: &str, gpu: u32) -> bool {
        let Some(lease) = self.leases.get_mut(id) else { return false };
        let Some(hold) = lease.gpus.get_mut(&gpu).filter(|h| **h == Hold::Releasing) else { return false };
        let stays = matches!(lease.holder, Holder::External(_)) && !lease.abandoned;
        if stays {
            *hold = Hold::Held;
        } else {
            lease.gpus.remove(&gpu);
            if let Some(ids) = self.by_gpu.get_mut(&gpu) {
                ids.remove(id);
            }
        }
        let lease = &self.leases[id];
        if !lease.is_releasing() {
            self.after_release(id);
        }
        true
    }

    /// Nothing of it is awaited any more.
    fn after_release(&mut self, id: &str) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        if matches!(lease.holder, Holder::External(_)) && !lease.abandoned {
            lease.user = None;
        } else {
            self.leases.remove(id);
        }
    }

    /// Nobody gets this GPU until [`LeaseTable::heal`]. Who holds it keeps it.
    pub fn quarantine(&mut self, gpu: u32, why: impl Into<String>) {
        let leaked = self.conditions.get(&gpu).is_some_and(|c| c.leaked);
        self.conditions.insert(gpu, Condition { why: why.into(), leaked });
    }

    /// It is given out again; whether it was not. The owner pumps the queue afterwards.
    pub fn heal(&mut self, gpu: u32) -> bool {
        self.conditions.remove(&gpu).is_some()
    }

    /// How a GPU stands, with the reason where it is not given out.
    pub fn state(&self, gpu: &Gpu) -> (GpuState, Option<&str>) {
        let mut on = self.on(gpu.index).peekable();
        let any = on.peek().is_some();
        let (mut releasing, mut exclusive) = (false, false);
        for lease in on {
            releasing |= lease.gpus.get(&gpu.index) == Some(&Hold::Releasing);
            exclusive |= lease.share == super::Share::Exclusive;
        }
        match self.conditions.get(&gpu.index) {
            Some(Condition { why, leaked: true }) => (GpuState::VramLeaked, Some(why)),
            Some(Condition { why, .. }) => (GpuState::Quarantined, Some(why)),
            None if gpu.partitioned => (GpuState::Partitioned, None),
            None if self.sealed.is_some() => (GpuState::Quarantined, self.sealed.as_deref()),
            None if releasing => (GpuState::Releasing, None),
            None if exclusive => (GpuState::Leased, None),
            None if any => (GpuState::Shared, None),
            None => (GpuState::Free, None),
        }
    }

    /// Whether the last holder's memory was seen to be back; `None` where there was no holder.
    pub fn last_release(&self, gpu: u32) -> Option<Proof> {
        self.last_proof.get(&gpu).copied()
    }

    /// GPUs whose memory is awaited, with their leases.
    pub fn awaited(&self) -> Vec<(String, u32)> {
        let of = |l: &Lease| l.gpus.iter().filter(|(_, h)| **h == Hold::Releasing).map(|(n, _)| (l.id.clone(), *n)).collect::<Vec<_>>();
        self.leases.values().flat_map(of).collect()
    }
}
