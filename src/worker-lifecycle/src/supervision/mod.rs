//! Watching over a worker: what it says of itself, whether it goes on answering, and what follows from its end.
//!
//! ```text
//!  sd_notify datagram ──notify──► words ─┬─► readiness, status text
//!                                        └─► pings ─┐
//!  interval ──► probe ───────────────────────────► liveness ──► unhealthy, answers again, too long
//!  end of a life ──► restart (pure): again after a pause, given up, over
//! ```
//! Must never know: how a worker is started and stopped; that is its task's.

mod failures;
mod liveness;
mod notify;
mod restart;

pub(crate) use liveness::{Asking, Finding, Liveness};
pub(crate) use notify::{Notified, Pings, Word, parse};
pub(crate) use restart::{Backoff, Ended, Next, Restarts, is_final};
