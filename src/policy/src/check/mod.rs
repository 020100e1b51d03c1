//! What is wrong with a policy beyond its grammar: contradictions, entries without effect, and what its author should know.
//!
//! ```text
//!  text ──parse──► Traced ──rules (files, limits, confinement, devices, environment, lifecycle)──► findings
//!              └─────────── redundant: parsed again without each key ──────────────────►
//! ```
//! Owns the rules. A policy with an error among its findings can still be parsed: `check` is where it fails. Must never know a host.

mod confinement;
mod devices;
mod environment;
mod files;
mod lifecycle;
mod limits;
mod redundant;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::origin::Traced;
use crate::{Policy, PolicyError};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The policy contradicts itself: what it says is not what happens.
    Error,
    /// Something in it has no effect, or opens more than it seems to.
    Warning,
    /// Worth knowing; nothing need be done.
    Note,
}

/// One finding.
///
/// In JSON `{"level": "error", "file": "mine.toml", "line": 7, "key": "limits.memory_high", "message": "…"}`; `line` is `null` for what no
/// file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The policy's file, or an included one.
    pub file: String,
    /// Line, from 1.
    pub line: Option<usize>,
    /// The key.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}: {}: {}", self.key, self.level.word(), self.message)
    }
}

impl Level {
    /// As the JSON has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A policy that can be used, and what is to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The policy with its places.
    pub traced: Traced,
    /// By file and line.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// Whether nothing of `worst` or worse was found.
    pub fn is_clean_of(&self, worst: Level) -> bool {
        self.findings.iter().all(|finding| finding.level > worst)
    }
}

/// Checks `text`, the file `source` of the policy `name`; `fragments` gives included texts by name.
///
/// Errors: a text that is no policy, as [`Policy::parse`] has it.
pub fn check(name: &str, source: &str, text: &str, fragments: &dyn Fn(&str) -> Option<String>) -> Result<Checked, PolicyError> {
    let traced = Policy::trace(name, source, text, fragments)?;
    let mut findings = Findings { traced: &traced, found: Vec::new() };
    files::look(&mut findings);
    limits::look(&mut findings);
    confinement::look(&mut findings);
    devices::look(&mut findings);
    environment::look(&mut findings);
    lifecycle::look(&mut findings);
    redundant::look(&mut findings, text, &|text| Policy::parse(name, source, text, fragments));
    let mut findings = findings.found;
    let own = |finding: &Finding| finding.file != traced.origins.own_file();
    findings.sort_by(|a, b| (own(a), &a.file, a.line, a.level, &a.message).cmp(&(own(b), &b.file, b.line, b.level, &b.message)));
    Ok(Checked { traced, findings })
}

/// The list that the rules write to.
struct Findings<'t> {
    traced: &'t Traced,
    found: Vec<Finding>,
}

impl<'t> Findings<'t> {
    fn policy(&self) -> &'t Policy {
        &self.traced.policy
    }

    /// Adds a finding about `path`, a key or an entry of a list.
    fn say(&mut self, level: Level, path: &str, message: impl Into<String>) {
        let origin = self.traced.origins.of(path);
        let file = origin.as_ref().map_or_else(|| self.traced.origins.own_file().to_owned(), |o| o.file.clone());
        let key = path.split('[').next().unwrap_or_default().to_owned();
        self.found.push(Finding { level, file, line: origin.map(|o| o.line), key, message: message.into() });
    }

    fn error(&mut self, path: &str, message: impl Into<String>) {
        self.say(Level::Error, path, message);
    }

    fn warning(&mut self, path: &str, message: impl Into<String>) {
        self.say(Level::Warning, path, message);
    }

    fn note(&mut self, path: &str, message: impl Into<String>) {
        self.say(Level::Note, path, message);
    }

    /// Whether some file says this key.
    fn is_written(&self, path: &str) -> bool {
        self.traced.origins.of(path).is_some()
    }
}

#[cfg(test)]
mod tests;
