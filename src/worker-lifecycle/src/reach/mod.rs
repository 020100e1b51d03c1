//! Ways to a worker: connections into its own network namespace, so that only it can answer.

mod dialer;
mod forward;
mod owner;
mod sockets;

pub(crate) use dialer::{Dialer, Target};
pub(crate) use forward::{Forwarder, Route};
