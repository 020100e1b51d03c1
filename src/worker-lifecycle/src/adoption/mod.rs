//! Workers that outlived the hive before: what the launcher found, joined with what that hive had written down, becomes this hive's list.
//!
//! ```text
//!  launcher: Found… ──►┐                 ┌─► living: a task, which hears from the init where its worker is
//!                      │ join (pure) ────┼─► down: a task, which waits for its next start
//!  hive/workers/ ─────►┘                 ├─► ended or lost meanwhile: listed with how, told once
//!                                        └─► ended before: listed as it was; deleted: its directories go
//! ```
//! All of it before anything is served. What neither says is not made up: it is `lost`, with why. Must never know: how an init is found, nor
//! who asks for the list.

mod down;
#[cfg(test)]
mod down_tests;
mod found;
mod join;
mod living;
mod verdicts;

pub(crate) use down::Down;
pub use found::{FoundError, FoundWorker, hear_found};
pub(crate) use join::{Case, Facts, Living, News, Over, join};
pub(crate) use living::{Birth, born, born_down, held};
pub(crate) use verdicts::Verdicts;
