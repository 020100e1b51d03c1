//! The `rbee-hive` binary: hive, launcher, `run` and client commands behind one name.
//!
//! Owns the dispatch, which happens before any thread or runtime exists: the launcher and the init are copies of a
//! single-threaded process. Must never know what a command does.
#![forbid(unsafe_code)]

mod args;
mod cli;
mod config;
mod gpus;
mod hive;
mod http;
mod jobs;
mod json;
mod launch;
mod learn;
mod logging;
mod params;
mod rpc;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match args::Args::parse().into_command() {
        args::Command::Serve(options) => serve::run(*options),
        args::Command::Run(options) => launch::run_command(*options),
        args::Command::Launcher(options) => launch::launcher(*options),
        args::Command::NvmlHelper { question } => gpus::nvml_helper(&question),
        args::Command::Client(command) => cli::run(command),
    }
}
