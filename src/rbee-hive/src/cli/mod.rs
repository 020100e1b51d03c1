//! Client commands: what a person or a script asks of a hive.
//!
//! Owns the commands' options, how answers look, and exit status: 0 done, 1 refused or failed, 2 usage, 3 no hive there.
//! Must never know: how a hive does what it is asked.

mod commands;
mod connect;
mod doctor;
mod error;
mod output;
mod render;

use std::process::ExitCode;

use clap::Subcommand;

use error::CliError;
use output::Output;

/// What a client may ask for.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Start a worker
    Spawn(Box<commands::SpawnArgs>),
    /// Show one worker: limits and use, processes, what is not in force, how it ended
    Status(commands::StatusArgs),
    /// List workers
    Ps(commands::PsArgs),
    /// Show what a worker has printed
    Logs(commands::LogsArgs),
    /// Plot a worker's memory, CPU, IO and pressure of the last ten minutes
    History(commands::HistoryArgs),
    /// Wait until a worker is ready or has ended
    Wait(commands::WaitArgs),
    /// Stop a worker; returns when everything is taken back
    Stop(commands::StopArgs),
    /// Stop a worker if need be and take it off the list
    Rm(commands::RmArgs),
    /// Send a signal to a worker's own process
    Kill(commands::KillArgs),
    /// Change limits of a running worker
    Update(commands::UpdateArgs),
    /// Let a worker stand still; connections to it wait until `thaw`
    Freeze(commands::FreezeArgs),
    /// Let a frozen worker go on; returns when it answers
    Thaw(commands::FreezeArgs),
    /// Show what has happened to workers and devices
    Events(commands::EventsArgs),
    /// Read a worker's sandbox back and compare it with its plan; fails where it differs
    Verify(commands::VerifyArgs),
    /// List CPUs and GPUs
    Devices(commands::DevicesArgs),
    /// List, take and give back leases on devices
    #[command(subcommand)]
    Lease(commands::LeaseCommand),
    /// List, show, check, explain and score policies; without a hive the built-in ones
    #[command(subcommand)]
    Policy(commands::PolicyCommand),
    /// Call any JSON-RPC method and print its result
    Call(commands::CallArgs),
    /// Show where a worker's grants and limits are from, what is not in force, and how open it is
    Explain(commands::ExplainArgs),
    /// Show the hive itself
    Info(commands::InfoArgs),
    /// Show what this host can enforce, and what to do about what it cannot
    Doctor(Box<doctor::DoctorArgs>),
    /// Print a completion script for a shell
    Completions(commands::CompletionsArgs),
    /// Print the manual page
    Man,
}

/// Carries a client command out; errors go to standard error.
pub(crate) fn run(command: ClientCommand) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let mut output = Output::stdout(&mut stdout);
    let result = execute(command, &mut output).and_then(|()| output.flush());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, as in `rbee-hive logs … | head`.
        Err(CliError::Write(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error::report(&error));
            ExitCode::from(error.status())
        }
    }
}

fn execute(command: ClientCommand, output: &mut Output<'_>) -> Result<(), CliError> {
    match command {
        ClientCommand::Completions(args) => commands::completions(&args, output),
        ClientCommand::Man => commands::man(output),
        // It makes a launcher of its own, which must be done before there is a runtime.
        ClientCommand::Policy(commands::PolicyCommand::Learn(args)) => commands::learn(&args),
        other => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
            runtime.block_on(ask(other, output))
        }
    }
}

async fn ask(command: ClientCommand, output: &mut Output<'_>) -> Result<(), CliError> {
    match command {
        ClientCommand::Spawn(args) => commands::spawn(*args, output).await,
        ClientCommand::Status(args) => commands::status(&args, output).await,
        ClientCommand::Ps(args) => commands::ps(&args, output).await,
        ClientCommand::Logs(args) => commands::logs(&args, output).await,
        ClientCommand::History(args) => commands::history(&args, output).await,
        ClientCommand::Wait(args) => commands::wait(&args, output).await,
        ClientCommand::Stop(args) => commands::stop(&args, output).await,
        ClientCommand::Rm(args) => commands::rm(&args, output).await,
        ClientCommand::Kill(args) => commands::kill(&args, output).await,
        ClientCommand::Update(args) => commands::update(&args, output).await,
        ClientCommand::Freeze(args) => commands::freeze(&args, output).await,
        ClientCommand::Thaw(args) => commands::thaw(&args, output).await,
        ClientCommand::Events(args) => commands::events(&args, output).await,
        ClientCommand::Verify(args) => commands::verify(&args, output).await,
        ClientCommand::Devices(args) => commands::devices(&args, output).await,
        ClientCommand::Lease(command) => commands::lease(&command, output).await,
        ClientCommand::Policy(command) => commands::policy(&command, output).await,
        ClientCommand::Call(args) => commands::call(&args, output).await,
        ClientCommand::Explain(args) => commands::explain(&args, output).await,
        ClientCommand::Info(args) => commands::info(&args, output).await,
        ClientCommand::Doctor(args) => doctor::run(&args, output).await,
        ClientCommand::Completions(args) => commands::completions(&args, output),
        ClientCommand::Man => commands::man(output),
    }
}

#[cfg(test)]
mod fake_hive;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod tests;
