//! The only place where a client command writes.
//!
//! Owns standard output, messages on standard error, and what keeps foreign text from steering the terminal. Must never know what
//! the text says.

mod table;
mod text;
mod units;

use std::io::{IsTerminal as _, Write};

use serde_json::Value;

use super::error::CliError;

pub(crate) use table::{Align, table};
pub(crate) use text::{clean, clean_line, shorten};
pub(crate) use units::{bytes, cpu_time, share, since, span};

/// Where the output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// A terminal, which obeys control characters.
    Terminal,
    /// A file or another program, which gets every byte as it is.
    Pipe,
}

/// Standard output, or what a test puts in its place.
pub(crate) struct Output<'a> {
    out: &'a mut dyn Write,
    screen: Screen,
}

impl<'a> Output<'a> {
    /// Over standard output.
    pub(crate) fn stdout(out: &'a mut std::io::StdoutLock<'static>) -> Self {
        let screen = if out.is_terminal() { Screen::Terminal } else { Screen::Pipe };
        Self { out, screen }
    }

    /// Over anything, as to a pipe.
    #[cfg(test)]
    pub(crate) fn to(out: &'a mut dyn Write) -> Self {
        Self { out, screen: Screen::Pipe }
    }

    /// What it goes to.
    pub(crate) fn screen(&self) -> Screen {
        self.screen
    }

    /// Writes text as it is; control characters in what others said are replaced before.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.out.write_all(text.as_bytes()).map_err(CliError::Write)
    }

    /// Writes bytes that are no text of ours.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes).map_err(CliError::Write)
    }

    /// Writes a value, indented.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(|e| CliError::Write(e.into()))?;
        self.text(&text)?;
        self.text("\n")
    }

    /// Writes a value in one line.
    pub(crate) fn json_line(&mut self, value: &Value) -> Result<(), CliError> {
        self.text(&format!("{value}\n"))
    }

    /// Hands over what is buffered.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush().map_err(CliError::Write)
    }
}

/// Writes to standard error. That it can't be written is nothing that anybody could be told.
pub(crate) fn complain(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let painted = match text.strip_prefix("error:") {
        Some(rest) if colour => format!("\u{1b}[1;31merror:\u{1b}[0m{rest}"),
        _ => text.to_owned(),
    };
    let _ = stderr.write_all(painted.as_bytes());
}

/// A remark on standard error.
pub(crate) fn remark(text: &str) {
    complain(&format!("note: {}\n", clean(text)));
}
