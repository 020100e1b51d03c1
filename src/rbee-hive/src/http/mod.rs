//! HTTP/1.1 over TCP and the Unix socket: connections, who may call, and the routes.
//!
//! ```text
//!  accept ─Peer─► router: guard (Host, Origin) ─► access (uid or token) ─► /rpc (also as WebSocket), /v1/jobs, /v1/events, …
//! ```
//! Must never know how a worker is started.

mod accept;
mod access;
mod answer;
mod body;
mod events;
mod guard;
mod jobs;
mod peer;
mod router;
mod rpc;
mod used;
mod ws;

pub(crate) use accept::{Listeners, serve};
pub(crate) use access::AccessRules;
pub(crate) use peer::{group_id, user_id};
pub(crate) use router::router;

#[cfg(test)]
mod accept_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod ws_tests;
