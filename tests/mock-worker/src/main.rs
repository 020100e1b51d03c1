//! A worker that is no language model: it speaks the seed's command line and `GET /health`, and does harm when it is told to.
//!
//! Owns: the one process that the tests put into a sandbox and question from inside. It is never shipped as a product.
//! Must never know: the hive, its policies, or what a test expects of it; it reports what it sees and what the kernel answers.
#![forbid(unsafe_code)]

mod clock;
mod http;
mod json;
mod load;
mod mps;
mod options;
mod readiness;
mod routes;
mod serve;
mod sight;
mod startup;
mod termination;

use std::process::ExitCode;

use clap::Parser;

use crate::options::Options;

fn main() -> ExitCode {
    let outcome = if mps::is_meant() { mps::run() } else { startup::run(Options::parse()) };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            startup::complain(&error);
            ExitCode::from(70)
        }
    }
}
