//! JSON-RPC 2.0: methods, and the protocol around them.
//!
//! ```text
//!  bytes ─envelope─► calls, notifications ─dispatch─► jsonrpsee's module ─► one of the methods ─► Fields → spawner
//! ```
//! Must never know HTTP: it takes a body and gives a body back, or nothing for notifications.

mod dispatch;
mod envelope;
mod error;
mod method;
mod methods;
mod subscriptions;

pub(crate) use dispatch::Rpc;
pub(crate) use error::error_response;
pub(crate) use subscriptions::{Subscriptions, kind as event_kind};
