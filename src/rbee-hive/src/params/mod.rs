//! Parameters of requests: from JSON to typed values, and the refusals that can come of it.
//!
//! Shared by JSON-RPC and the jobs API. Must never know either.

mod fields;
mod limits;
mod refusal;
mod signal;
mod spawn;

pub(crate) use fields::{Fields, Need, Param};
pub(crate) use limits::{LIMITS, parse_limits};
pub(crate) use refusal::Refusal;
pub(crate) use signal::parse_signal;
pub(crate) use spawn::{DEVICE, SPAWN_PARAMS, parse_device, parse_spawn, parse_wait_for, parse_when_busy};
