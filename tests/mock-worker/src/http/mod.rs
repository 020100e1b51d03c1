//! HTTP/1.1, as much as a worker's health check and a test need: one request a connection.
//!
//! Owns: the wire format. Must never know: routes.

mod query;
mod reply;
mod request;

pub(crate) use query::Query;
pub(crate) use reply::{Chunked, Reply};
pub(crate) use request::Request;
