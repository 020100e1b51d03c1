//! The life of a worker as pure functions: what may be asked now, and what follows from what happened.
//!
//! ```text
//!                                               frozen ──thawed──► thawing
//!                                                 ▲ froze             │ answered
//!  requested ──executed──► starting ──answered──► ready ◄─────────────┘
//!      │                       │                    │  (a stop or an end leads away from frozen and thawing, too)
//!      └───────────stop────────┴───────stop─────────┴──► stopping ──ended──► ended
//!      └───────────ended───────┴───────ended────────┴──────────────────────► ended
//! ```
//! Must never know tasks, channels or the kernel.

mod admission;
mod transition;

pub(crate) use admission::{Ask, Hive, Permit, Refusal, may, may_start};
pub(crate) use transition::{Event, FrozenBy, Process, State};
