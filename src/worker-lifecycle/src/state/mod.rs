//! The life of a worker as pure functions: what may be asked now, and what follows from what happened.
//!
//! ```text
//!                                               frozen ──thawed──► thawing
//!                                                 ▲ froze             │ answered
//!  requested ──executed──► starting ──answered──► ready ◄─────────────┘
//!   ▲  │                       │                    │ ▲ failing, answered: unhealthy and back
//!   │  │                       │                    │  (a stop or an end leads away from frozen, thawing and unhealthy, too)
//!   │  └───────────stop────────┴───────stop─────────┴──► stopping ──ended──► ended
//!   │  └───────────ended───────┴───────ended────────┴──────────────────────► ended
//!   │  └───────────fell────────┴───────fell─────────┴──► restarting ──ended, gave up──► ended, given up
//!   └────────────────────────────reborn─────────────────────┘   └──stop──► stopping
//! ```
//! A worker that outlived its hive goes from `requested` to wherever its init and its record say that it is.
//!
//! Must never know tasks, channels or the kernel.

mod admission;
mod standing;
mod transition;

pub(crate) use admission::{Ask, Hive, Permit, Refusal, may, may_start};
pub(crate) use standing::{Before, Now, standing};
pub(crate) use transition::{Event, FrozenBy, Process, Standing, State};
