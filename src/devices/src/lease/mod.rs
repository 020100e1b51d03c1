//! Who holds which device. Pure and synchronous; its owner locks it.
//!
//! ```text
//!            ask                  begin_release              finish_release
//!  (queued) ─────► held by one ────────────────► releasing ───────────────► free
//!                  or by several                     │ leaked                 ▲
//!                                                    ▼                        │ heal
//!                                                vram_leaked / quarantined ───┘
//! ```
//! A GPU is held from the moment that it is promised until its memory is back, and not only until its holder has gone. CPUs and NUMA nodes
//! are shared without bound and held by nobody.
//!
//! Must never know why somebody wants a device, nor when it ends or its memory is back: the owner says so.

mod before;
mod choose;
mod error;
mod foreign;
mod holder;
mod leaver;
mod need;
mod on_lease;
mod queue;
mod release;
mod score;
mod share;
mod table;
#[cfg(test)]
mod tests;

pub use before::{Ended, OutOfUse};
pub use error::{LeaseError, Obstacle, Why};
pub use holder::{Holder, Lease, LeaseView};
pub use queue::{MAX_WAITING, Served, Ticket};
pub use release::{GpuState, Proof, Releasing};
pub(crate) use share::MAX_WAYS;
pub use share::Share;
pub use table::{Asked, LeaseTable, MAX_EXTERNAL};

use crate::DeviceSpec;

/// Whether the policy gives GPUs at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuDemand {
    /// No GPU.
    None,
    /// What the request asks for.
    Leased,
}

/// What a policy says about GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether any.
    pub demand: GpuDemand,
    /// How much of each at most, and where the request says nothing. `None`: as the request says, all of it where it does not.
    pub share: Option<Share>,
    /// How many where the request says nothing.
    pub count: u32,
    /// Bytes that must be free on each.
    pub vram_min: Option<u64>,
}

impl Terms {
    /// One whole GPU, or none.
    pub fn exclusive(demand: GpuDemand) -> Self {
        Self { demand, share: Some(Share::Exclusive), count: 1, vram_min: None }
    }

    /// What no policy bounds: a lease without a worker.
    pub fn unbounded() -> Self {
        Self { demand: GpuDemand::Leased, share: None, count: 1, vram_min: None }
    }
}

/// Who wants what.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// For whom.
    pub holder: Holder,
    /// What.
    pub spec: DeviceSpec,
    /// Within which bounds.
    pub terms: Terms,
}
