//! Jobs: operations that run on their own, narrated line by line.
//!
//! ```text
//!  POST ─operation─► JobBoard::start ─► task: narrates, calls the spawner ─► JobEnd
//!                        └► Job: lines + end ◄──── any number of readers, from the first line
//! ```
//! Must never know HTTP.

mod board;
mod end;
mod job;
mod operation;
mod run;

pub(crate) use board::JobBoard;
pub(crate) use end::JobEnd;
pub(crate) use job::{Job, Progress};
pub(crate) use operation::Operation;
pub(crate) use run::start;
