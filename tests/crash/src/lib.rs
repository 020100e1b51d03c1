//! Faults at every named step of hive, launcher, init and worker, and what is seen from outside after each.
//!
//! ```text
//!  seed ─► fault ─► scene (spawn, stop, …) with the fault set on the board ─► machine and hive looked at ─► table
//! ```
//! The hive under test is `rbee-hive-fail-points`. Must never know: how the hive does what it does, but for the names of its steps.
#![forbid(unsafe_code)]
#![allow(clippy::panic, clippy::expect_used, reason = "a fixture that can't be made ends the test")]

pub mod arena;
pub mod board;
pub mod fault;
pub mod machine;
pub mod points;
pub mod random;
pub mod run;
pub mod scene;
pub mod table;
pub mod truth;
