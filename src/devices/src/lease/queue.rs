//! Who waits, first come first served.
//!
//! A request that waits keeps every GPU that could serve it from those behind it, and from newcomers: one that wants many is not starved by
//! those that want few. What has no GPU in common with it passes. While GPUs that it can't do without are out of use, or in a stranger's
//! hand, or have too little memory that is not in a stranger's use, it keeps none: nobody knows for how long, and the others' idling would
//! help nobody.

use super::choose::possible;
use super::need::{Need, Wanted, understand};
use super::table::Kept;
use super::{Holder, Lease, LeaseError, LeaseRequest, LeaseTable};
use crate::{Gpu, Inventory};

/// Most requests that wait.
pub const MAX_WAITING: usize = 1024;

/// A place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A request that waited, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its place in line.
    pub ticket: Ticket,
    /// Its lease, or why it never gets one.
    pub outcome: Result<Lease, LeaseError>,
}

#[derive(Clone, Debug)]
pub(super) struct Waiting {
    ticket: Ticket,
    request: LeaseRequest,
    /// What it waits for; `None` for CPUs, which nobody waits for.
    need: Option<Need>,
}

impl Waiting {
    pub(super) fn holder(&self) -> &Holder {
        &self.request.holder
    }
}

impl LeaseTable {
    pub(super) fn enqueue(&mut self, request: LeaseRequest, wanted: Wanted) -> Ticket {
        let need = match wanted {
            Wanted::Gpus(need) => Some(need),
            Wanted::Cpus(_) => None,
        };
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.queue.push_back(Waiting { ticket, request, need });
        ticket
    }

    /// Serves who waits, in order. To be called whenever something was given back, healed, cancelled, or is looked at anew.
    pub fn pump(&mut self, inventory: &Inventory) -> Vec<Served> {
        let mut served = Vec::new();
        let (mut kept, mut at) = (Kept::new(), 0);
        while at < self.queue.len() && (kept.is_empty() || kept.len() < inventory.gpus.len()) {
            let Some(Waiting { ticket, request, need }) = self.queue.get(at).cloned() else { break };
            // Nothing that could serve it is to be had: the rest need not be asked.
            let hopeless = need.as_ref().is_some_and(|need| need.candidates.iter().all(|n| kept.contains_key(n)));
            let outcome = match hopeless {
                true => Err(LeaseError::Busy(vec![])),
                false => understand(inventory, &request.spec, &request.terms)
                    .and_then(|wanted| self.take(inventory, &request.holder, (&wanted, &kept))),
            };
            match outcome {
                Err(error) if error.is_temporary() => {
                    self.keep(inventory, &mut kept, (need.as_ref(), &request));
                    at += 1;
                }
                outcome => {
                    self.queue.remove(at);
                    served.push(Served { ticket, outcome });
                }
            }
        }
        served
    }

    /// Takes a request out of the line; whether it was there. Those behind it may be served now.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let before = self.queue.len();
        self.queue.retain(|w| w.ticket != ticket);
        self.queue.len() < before
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// What newcomers can't have.
    pub(super) fn kept(&self, inventory: &Inventory) -> Kept {
        let mut kept = Kept::new();
        for Waiting { need, request, .. } in &self.queue {
            self.keep(inventory, &mut kept, (need.as_ref(), request));
        }
        kept
    }

    /// Keeps what could serve a request from those behind it, if enough of that is in use by workers and leases alone.
    fn keep(&self, inventory: &Inventory, kept: &mut Kept, (need, request): (Option<&Need>, &LeaseRequest)) {
        let Some(need) = need else { return };
        let there = need.candidates.iter().filter_map(|n| inventory.gpu(*n));
        let sound: Vec<&Gpu> = there.filter(|gpu| self.may_come_free(gpu, need)).collect();
        let enough = if need.named { sound.len() == need.candidates.len() } else { possible(&sound, need.shape) };
        if enough {
            for gpu in sound {
                kept.entry(gpu.index).or_insert_with(|| request.holder.to_string());
            }
        }
    }

    /// Whether nothing but leases stands between a need and a GPU.
    fn may_come_free(&self, gpu: &Gpu, need: &Need) -> bool {
        let sound = self.sealed.is_none() && !self.conditions.contains_key(&gpu.index);
        sound && (need.named || self.stranger(gpu).is_none()) && self.would_have_room(gpu, need)
    }

    /// Whether there would be room if all leases of a GPU were given back: what is in use beyond them is a stranger's.
    fn would_have_room(&self, gpu: &Gpu, need: &Need) -> bool {
        let (Some(total), Some(needed)) = (gpu.memory_bytes, need.bytes.max(need.share.bytes())) else { return true };
        let leased = self.on(gpu.index).map(|lease| lease.share.part_of(total)).fold(0u64, u64::saturating_add);
        let used = self.used_bytes.get(&gpu.index).copied().unwrap_or(0);
        needed <= total.saturating_sub(used.saturating_sub(leased))
    }
}
