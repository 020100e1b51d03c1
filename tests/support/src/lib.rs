//! Fixtures for tests that need a whole hive: one starts, is asked, ends, and nothing of it may be left.
//!
//! Owns: starting and ending a hive, asking it, and comparing what is on the machine before and after.
//! Must never know: what a test expects. It fails a test by panicking, as a fixture does.
#![forbid(unsafe_code)]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a fixture reports what it cannot do by failing the test that uses it"
)]

mod binaries;
mod eventually;
mod hive;
mod privilege;
mod rpc;
mod snapshot;
mod sweep;
mod worker;

pub use binaries::{hive_binary, mock_binary};
pub use eventually::{eventually, poll, time_factor, within};
pub use hive::{Hive, HiveOptions, run_command};
pub use privilege::{Exclusive, exclusively, is_root};
pub use rpc::{HttpReply, RpcError, http_get, http_over_tcp, http_over_unix, rpc_over_unix};
pub use snapshot::{Scope, Snapshot};
pub use worker::{info, pid, port};
