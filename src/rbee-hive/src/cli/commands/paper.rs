//! `completions` and `man`: the command line described for shells and readers.

use clap::{Args as ClapArgs, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Args;
use crate::cli::error::CliError;
use crate::cli::output::Output;

/// Options of `completions`.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct CompletionsArgs {
    /// Shell
    shell: Shell,
}

/// Prints a completion script.
pub(crate) fn completions(args: &CompletionsArgs, output: &mut Output<'_>) -> Result<(), CliError> {
    // By way of a buffer: on a closed pipe the generator would panic.
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Args::command(), "rbee-hive", &mut script);
    output.bytes(&script)
}

/// Prints the manual page.
pub(crate) fn man(output: &mut Output<'_>) -> Result<(), CliError> {
    let mut page = vec![];
    clap_mangen::Man::new(Args::command()).render(&mut page).map_err(CliError::Write)?;
    output.bytes(&page)
}
