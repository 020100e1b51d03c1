//! How a job ended.
//!
//! Owns the last line of a stream. Must never know what the job did.

use std::fmt;

use crate::one_line;
use crate::redaction::redact;

/// The end of a job. Shown as the stream's last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// `[DONE]`: it did what was asked.
    Done,
    /// `[ERROR] <kind>: <message>`: it did not.
    Error {
        /// The error's kind, as the API names it.
        kind: String,
        /// What went wrong, in words.
        message: String,
    },
    /// `[CANCELLED]`: somebody asked it to stop.
    Cancelled,
}

impl JobEnd {
    /// The same end without secrets and with its texts bounded: what a stream keeps.
    pub(super) fn kept(self) -> Self {
        match self {
            Self::Error { kind, message } => Self::Error { kind: kept(&kind), message: kept(&message) },
            other => other,
        }
    }
}

/// Redacts before cutting: half a secret matches no rule.
fn kept(text: &str) -> String {
    one_line::cut(one_line::escaped(&redact(text)).into_owned(), one_line::MAX_TEXT_BYTES)
}

impl fmt::Display for JobEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("[DONE]"),
            Self::Error { kind, message } => write!(f, "[ERROR] {}: {}", one_line::escaped(kind), one_line::escaped(message)),
            Self::Cancelled => f.write_str("[CANCELLED]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::JobEnd;

    fn error(kind: &str, message: &str) -> JobEnd {
        JobEnd::Error { kind: kind.to_owned(), message: message.to_owned() }
    }

    #[test]
    fn each_end_has_its_line() {
        assert_eq!(JobEnd::Done.to_string(), "[DONE]");
        assert_eq!(JobEnd::Cancelled.to_string(), "[CANCELLED]");
        assert_eq!(error("binary_not_found", "no llama-worker").to_string(), "[ERROR] binary_not_found: no llama-worker");
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(error("a\rb", "c\nd\u{1b}").to_string(), r"[ERROR] a\rb: c\nd\u{1b}");
    }

    #[test]
    fn a_kept_error_has_no_secret() {
        assert_eq!(error("a", "api_key=abc\n").kept(), error("a", r"api_key=[REDACTED]\n"));
    }
}
