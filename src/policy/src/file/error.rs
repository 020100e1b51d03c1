//! What is wrong with a policy, and where.

use std::fmt;

/// A policy file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The file, or `embedded`.
    pub file: String,
    /// Line, from 1, where it is known.
    pub line: Option<usize>,
    /// The key.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for PolicyError {}

impl PolicyError {
    pub(super) fn plain(file: &str, key: &str, message: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, key: Some(key.into()), message: message.into() }
    }

    pub(crate) fn of_toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let offset = error.span().map(|s| s.start.min(text.len()));
        let line = offset.map(|o| text.as_bytes()[..o].iter().filter(|b| **b == b'\n').count() + 1);
        let line = line.map(|from| line_of_key(text, from, error.message()));
        let key = line.and_then(|n| text.lines().nth(n - 1)).and_then(key_of_line);
        Self { file: file.into(), line, key, message: error.message().trim().replace('\n', "; ") }
    }

    /// For a word that stands somewhere in the file.
    pub(crate) fn at_word(file: &str, text: &str, key: &str, word: &str, message: String) -> Self {
        let line = text.lines().position(|l| l.contains(word)).map(|n| n + 1);
        Self { file: file.into(), line, key: Some(key.into()), message }
    }
}

/// An error of one value in a table that is read as a whole has the table's place; the message begins with the key, so its line can be found.
fn line_of_key(text: &str, from: usize, message: &str) -> usize {
    let key = message.split_whitespace().next().unwrap_or_default();
    let is_key = |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', '.']));
    let below = text.lines().skip(from.saturating_sub(1)).position(is_key);
    if key.is_empty() { from } else { below.map_or(from, |n| from + n) }
}

fn key_of_line(line: &str) -> Option<String> {
    let key = line.split('=').next()?.trim().trim_matches(['[', ']', '"']);
    (!key.is_empty()).then(|| key.chars().take(80).collect())
}
