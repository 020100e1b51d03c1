//! The name of a worker: short, printable, and safe as a file and cgroup name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A worker's name: `[A-Za-z0-9][A-Za-z0-9_-]{0,62}`.
///
/// Once parsed it can be joined to a path without further checks: it holds no `/`, no dot and no NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkerId(String);

/// Why a text is not a worker's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker id {given:?} is not valid: 1 to 63 of A-Z a-z 0-9 _ -, the first a letter or digit")]
pub struct InvalidWorkerId {
    /// What was given, cut to 80 characters.
    pub given: String,
}

impl WorkerId {
    /// Longest name, in bytes.
    pub const MAX_LEN: usize = 63;

    /// Checks `text` against the grammar of worker names.
    pub fn parse(text: &str) -> Result<Self, InvalidWorkerId> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if first && rest && text.len() <= Self::MAX_LEN {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidWorkerId { given: text.chars().take(80).collect() })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the worker's cgroup, `w-<id>`: prefixed so that no id can be an interface file's name.
    pub fn cgroup_name(&self) -> String {
        format!("w-{}", self.0)
    }
}

impl TryFrom<String> for WorkerId {
    type Error = InvalidWorkerId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<WorkerId> for String {
    fn from(id: WorkerId) -> Self {
        id.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for bad in ["", "a/b", "..", ".", "a\0b", "-a", "_a", "a b", "ä", &"x".repeat(64)] {
            assert!(WorkerId::parse(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "worker-1", "W_1", "0", &"x".repeat(63)] {
            assert!(WorkerId::parse(good).is_ok(), "{good:?} was refused");
        }
    }
}
