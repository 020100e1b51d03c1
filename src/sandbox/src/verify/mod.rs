//! Trust, then verify: a running sandbox read back and compared with its plan.
//!
//! ```text
//!  describe   Expected (plan, leaf, Made)    Outside (hive, /proc)   Inside (init)   ProgramSeen (launcher)
//!  decide     compare(Expected, Seen) → Findings: Vec<Drift>, and what could not be seen           (pure)
//!  do         nothing here: what follows from a drift is the worker's task's
//! ```
//! What nobody can see from outside is not claimed: a Landlock domain, securebits, the socket state of an unbound TCP socket's namespace. What
//! a process may change by itself at any time (its umask, which files of its own it opens) is no drift and is not compared.
//!
//! Must never know: policies, requests, what follows from a drift.

mod compare;
mod drift;
mod expected;
pub(crate) mod read;

pub use compare::compare;
pub use drift::{Aspect, Drift, Findings};
pub use expected::{Expected, Seen};
pub use read::outside::{LimitSeen, Outside, ProcessSeen, look, settle};
pub use read::status::Status;

#[cfg(test)]
pub(crate) mod tests;
