//! Log lines.

use serde::{Deserialize, Serialize};

/// Answer of `worker_logs`, oldest line first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Whether older lines were left out.
    #[serde(default)]
    pub truncated: bool,
}

/// One line, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// RFC 3339 with nanoseconds.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Without its line feed.
    pub text: String,
    /// Whether the line goes on in the next entry of its stream.
    #[serde(default)]
    pub partial: bool,
}
