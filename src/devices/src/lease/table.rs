//! The table itself: what is held, and how a request is answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::choose::{Candidate, best};
use super::holder::Hold;
use super::need::{Need, Wanted, understand};
use super::queue::{MAX_WAITING, Ticket, Waiting};
use super::release::{Condition, Proof};
use super::{Holder, Lease, LeaseError, LeaseRequest, LeaseView, Obstacle, Share, Why};
use crate::spec::WhenBusy;
use crate::{Gpu, Inventory};

/// Most leases without a worker.
pub const MAX_EXTERNAL: usize = 1024;

/// All leases, and who waits for one.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    pub(super) leases: BTreeMap<String, Lease>,
    /// Lease ids by GPU.
    pub(super) by_gpu: BTreeMap<u32, BTreeSet<String>>,
    pub(super) queue: VecDeque<Waiting>,
    pub(super) conditions: BTreeMap<u32, Condition>,
    pub(super) used_bytes: BTreeMap<u32, u64>,
    pub(super) last_proof: BTreeMap<u32, Proof>,
    /// Processes that are no worker's.
    pub(super) foreign: BTreeMap<u32, BTreeSet<i32>>,
    /// Why no GPU at all is given out.
    pub(super) sealed: Option<String>,
    pub(super) given: u64,
    pub(super) next_ticket: u64,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It has a lease.
    Granted(Lease),
    /// It waits: [`LeaseTable::pump`] tells when it is served.
    Queued {
        /// Its place in line.
        ticket: Ticket,
        /// What it waits for.
        busy: LeaseError,
    },
}

/// GPUs that are kept for who waits longer, with whom.
pub(super) type Kept = BTreeMap<u32, String>;

impl LeaseTable {
    /// Leases what is asked for, all of it or nothing, or lets it wait if it may.
    pub fn ask(&mut self, inventory: &Inventory, request: LeaseRequest) -> Result<Asked, LeaseError> {
        // Who waits may be served later: with the others that would be too many.
        let holders = || self.leases.values().map(|lease| &lease.holder).chain(self.queue.iter().map(Waiting::holder));
        let external = || holders().filter(|holder| matches!(holder, Holder::External(_))).count();
        if matches!(request.holder, Holder::External(_)) && external() >= MAX_EXTERNAL {
            return Err(LeaseError::TooMany(MAX_EXTERNAL));
        }
        let wanted = understand(inventory, &request.spec, &request.terms)?;
        let kept = self.kept(inventory);
        match self.take(inventory, &request.holder, (&wanted, &kept)) {
            Ok(lease) => Ok(Asked::Granted(lease)),
            Err(busy) if busy.is_temporary() && Self::may_wait(&request) => {
                if self.queue.len() >= MAX_WAITING {
                    return Err(LeaseError::QueueFull(MAX_WAITING));
                }
                Ok(Asked::Queued { ticket: self.enqueue(request, wanted), busy })
            }
            Err(error) => Err(error),
        }
    }

    /// As [`LeaseTable::ask`], without waiting.
    pub fn acquire(&mut self, inventory: &Inventory, request: &LeaseRequest) -> Result<Lease, LeaseError> {
        let wanted = understand(inventory, &request.spec, &request.terms)?;
        let kept = self.kept(inventory);
        self.take(inventory, &request.holder, (&wanted, &kept))
    }

    /// Lets a worker run on somebody else's lease.
    ///
    /// Errors: no such lease; one that a worker holds or uses, or whose memory is awaited.
    pub fn use_lease(&mut self, id: &str, worker: &str) -> Result<Lease, LeaseError> {
        let none = || LeaseError::NoSuchLease(id.to_owned());
        let out_of_use = |n: u32| {
            let condition = self.conditions.get(&n)?;
            Some(Obstacle { device: format!("GPU-{n}"), why: Why::Quarantined(condition.why.clone()) })
        };
        let out: Vec<Obstacle> = self.leases.get(id).into_iter().flat_map(Lease::gpus).filter_map(out_of_use).collect();
        if !out.is_empty() {
            return Err(LeaseError::Busy(out));
        }
        let lease = self.leases.get_mut(id).filter(|l| !l.abandoned).ok_or_else(none)?;
        let taken = match (&lease.holder, &lease.user) {
            (Holder::Worker(other), _) | (_, Some(other)) => Some(other.clone()),
            _ => None,
        };
        if let Some(worker) = taken {
            return Err(LeaseError::InUse { lease: id.to_owned(), worker });
        }
        if lease.is_releasing() {
            return Err(none());
        }
        lease.user = Some(worker.to_owned());
        Ok(lease.clone())
    }

    /// Every lease, in the order of their numbers.
    pub fn leases(&self) -> Vec<LeaseView> {
        let mut views: Vec<&Lease> = self.leases.values().collect();
        views.sort_by_key(|l| number(&l.id));
        views.into_iter().map(Lease::view).collect()
    }

    /// Every lease, in no order that means anything.
    pub fn all(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// One lease.
    pub fn lease(&self, id: &str) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// Leases on a GPU.
    pub fn on(&self, gpu: u32) -> impl Iterator<Item = &Lease> {
        self.by_gpu.get(&gpu).into_iter().flatten().filter_map(|id| self.leases.get(id))
    }

    /// Names of who holds this GPU, comma-joined; `None` where nobody does.
    pub fn holder(&self, gpu: u32) -> Option<String> {
        let names: Vec<&str> = self.on(gpu).map(|l| l.holder.name()).collect();
        (!names.is_empty()).then(|| names.join(","))
    }

    /// Bytes of a GPU's memory in use, by whomever; `None` where nobody can tell.
    pub fn observe(&mut self, gpu: u32, used_bytes: Option<u64>) {
        match used_bytes {
            Some(bytes) => self.used_bytes.insert(gpu, bytes),
            None => self.used_bytes.remove(&gpu),
        };
    }

    /// Bytes of a GPU's memory that are neither leased nor in use, if its size is known.
    pub fn free_bytes(&self, gpu: &Gpu) -> Option<u64> {
        let total = gpu.memory_bytes?;
        let leased = self.on(gpu.index).map(|l| l.share.part_of(total)).fold(0u64, u64::saturating_add);
        let used = self.used_bytes.get(&gpu.index).copied().unwrap_or(0);
        Some(total.saturating_sub(leased.max(used)))
    }

    /// Takes it if it is there.
    pub(super) fn take(&mut self, inventory: &Inventory, holder: &Holder, (wanted, kept): (&Wanted, &Kept)) -> Result<Lease, LeaseError> {
        let (gpus, share) = match wanted {
            Wanted::Cpus(names) => {
                let id = self.next_id();
                let mut lease = self.put(id.clone(), holder, (&[], Share::Exclusive));
                lease.devices.clone_from(names);
                self.leases.insert(id, lease.clone());
                return Ok(lease);
            }
            Wanted::Gpus(need) => (self.place(inventory, need, kept)?, need.share),
        };
        let id = self.next_id();
        Ok(self.put(id, holder, (&gpus, share)))
    }

    /// The GPUs to take.
    fn place(&self, inventory: &Inventory, need: &Need, kept: &Kept) -> Result<Vec<u32>, LeaseError> {
        let (mut free, mut busy) = (Vec::new(), Vec::new());
        for gpu in need.candidates.iter().filter_map(|n| inventory.gpu(*n)) {
            let stranger = || if need.named { None } else { self.stranger(gpu) };
            match self.obstacle(gpu, (need.share, need.bytes), kept).or_else(stranger) {
                None => free.push(Candidate { gpu, free: self.free_bytes(gpu) }),
                Some(obstacle) => busy.push(obstacle),
            }
        }
        match (need.named, busy.is_empty()) {
            (true, true) => Ok(need.candidates.clone()),
            (true, false) => Err(LeaseError::Busy(busy)),
            (false, _) => best(inventory, &free, need.shape).ok_or(LeaseError::Busy(busy)),
        }
    }

    /// What stands between a share and a GPU.
    pub(super) fn obstacle(&self, gpu: &Gpu, (share, bytes): (Share, Option<u64>), kept: &Kept) -> Option<Obstacle> {
        let held: Vec<&Lease> = self.on(gpu.index).collect();
        let shares: Vec<Share> = held.iter().map(|l| l.share).collect();
        let needed = bytes.max(if let Share::Memory(part) = share { Some(part) } else { None });
        let why = match (self.conditions.get(&gpu.index), kept.get(&gpu.index)) {
            _ if self.sealed.is_some() => self.sealed.clone().map(Why::Sealed),
            (Some(condition), _) => Some(Why::Quarantined(condition.why.clone())),
            _ if !share.fits(&shares, gpu.memory_bytes) => Some(Why::Held(held.iter().map(|l| l.in_words()).collect())),
            (None, Some(who)) => Some(Why::KeptFor(who.clone())),
            _ => match (needed, self.free_bytes(gpu)) {
                (Some(needed), Some(free)) if free < needed => Some(Why::NoRoom { free, needed }),
                _ => None,
            },
        };
        why.map(|why| Obstacle { device: format!("GPU-{}", gpu.index), why })
    }

    pub(super) fn put(&mut self, id: String, holder: &Holder, (gpus, share): (&[u32], Share)) -> Lease {
        let lease = Lease {
            id: id.clone(),
            holder: holder.clone(),
            share,
            devices: gpus.iter().map(|n| format!("GPU-{n}")).collect(),
            gpus: gpus.iter().map(|n| (*n, Hold::Held)).collect(),
            user: None,
            abandoned: false,
        };
        for n in gpus {
            self.by_gpu.entry(*n).or_default().insert(id.clone());
        }
        self.leases.insert(id, lease.clone());
        lease
    }

    fn next_id(&mut self) -> String {
        self.given += 1;
        format!("lease:{}", self.given)
    }

    fn may_wait(request: &LeaseRequest) -> bool {
        request.spec.wish().is_some_and(|w| w.when_busy != WhenBusy::Refuse)
    }
}

/// The number in a lease's id; 0 where there is none.
pub(super) fn number(id: &str) -> u64 {
    id.strip_prefix("lease:").and_then(|n| n.parse().ok()).unwrap_or(0)
}
