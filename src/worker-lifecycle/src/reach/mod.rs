//! Ways to a worker: connections into its own network namespace, so that only it can answer.

mod counted;
mod dialer;
mod forward;
mod gate;
mod owner;
mod sockets;
mod usage;

pub(crate) use dialer::{Dialer, Target};
pub(crate) use forward::{Forwarder, Route};
pub(crate) use gate::{Gate, Gatekeeper};
pub(crate) use usage::Usage;
