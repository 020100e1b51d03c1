//! The life of a worker as pure functions: what may be asked now, and what follows from what happened.
//!
//! ```text
//!  requested ──executed──► starting ──answered──► ready
//!      │                       │                    │
//!      └───────────stop────────┴───────stop─────────┴──► stopping ──ended──► ended
//!      └───────────ended───────┴───────ended────────┴──────────────────────► ended
//! ```
//! Must never know tasks, channels or the kernel.

mod admission;
mod transition;

pub(crate) use admission::{Ask, Hive, Permit, Refusal, may, may_start};
pub(crate) use transition::{Event, Process, State};
