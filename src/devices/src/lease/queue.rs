//! Who waits, first come first served.
//!
//! A request that waits keeps every GPU that could serve it from those behind it, and from newcomers: one that wants many is not starved by
//! those that want few. What has no GPU in common with it passes.

use super::need::{Wanted, understand};
use super::table::Kept;
use super::{Holder, Lease, LeaseError, LeaseRequest, LeaseTable};
use crate::Inventory;

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
    /// GPUs that could serve it.
    candidates: Vec<u32>,
}

impl Waiting {
    pub(super) fn holder(&self) -> &Holder {
        &self.request.holder
    }
}

impl LeaseTable {
    pub(super) fn enqueue(&mut self, request: LeaseRequest, wanted: Wanted) -> Ticket {
        let candidates = match wanted {
            Wanted::Gpus(need) => need.candidates,
            Wanted::Cpus(_) => vec![],
        };
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.queue.push_back(Waiting { ticket, request, candidates });
        ticket
    }

    /// Serves who waits, in order. To be called whenever something was given back, healed, cancelled, or is looked at anew.
    pub fn pump(&mut self, inventory: &Inventory) -> Vec<Served> {
        let mut served = Vec::new();
        let (mut kept, mut at) = (Kept::new(), 0);
        while at < self.queue.len() && (kept.is_empty() || kept.len() < inventory.gpus.len()) {
            let Some(Waiting { ticket, request, candidates }) = self.queue.get(at).cloned() else { break };
            // Nothing that could serve it is to be had: the rest need not be asked.
            let hopeless = !candidates.is_empty() && candidates.iter().all(|n| kept.contains_key(n));
            let outcome = match hopeless {
                true => Err(LeaseError::Busy(vec![])),
                false => understand(inventory, &request.spec, &request.terms)
                    .and_then(|wanted| self.take(inventory, &request.holder, (&wanted, &kept))),
            };
            match outcome {
                Err(error) if error.is_temporary() => {
                    keep(&mut kept, &candidates, &request);
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
    pub(super) fn kept(&self) -> Kept {
        let mut kept = Kept::new();
        for Waiting { candidates, request, .. } in &self.queue {
            keep(&mut kept, candidates, request);
        }
        kept
    }
}

fn keep(kept: &mut Kept, candidates: &[u32], request: &LeaseRequest) {
    for n in candidates {
        kept.entry(*n).or_insert_with(|| request.holder.to_string());
    }
}
