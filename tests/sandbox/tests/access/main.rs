//! Who may ask a hive for what: tokens, roles, TLS, and the record of it.

#![allow(clippy::panic, clippy::expect_used, reason = "a hive that does not answer as a test needs it ends the test")]

mod files;
mod listening;
mod tls;
mod tokens;
