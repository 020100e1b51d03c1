//! From what a command did while it was watched (`Observations`) to the smallest policy under which it does the same (`Proposal`).
//!
//! ```text
//!  Watched { plan, observations, … } ──propose──► policy file, seccomp profile
//!              │
//!              └─ plan.watch: the base policy. Nothing that it does not grant is ever proposed, whatever was observed.
//! ```
//! Must never know: how a command is watched, and where files go.

mod calls;
mod files;
mod limits;
mod network;
mod observations;
mod text;

use serde::{Deserialize, Serialize};

use crate::file::Policy;
use crate::plan::SandboxPlan;
use crate::seccomp::SeccompProfile;

pub use observations::{Gap, Kind, Observations, Programs, SeenFile, SeenNetwork, Target, Use};

/// The base of a watched sandbox: what a proposal can at most grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchPlan {
    /// The policy that it runs under.
    pub base: Policy,
    /// Its seccomp profile; `None` where it has none, and so every call may be made.
    pub profile: Option<SeccompProfile>,
}

/// A command that was watched to its end.
#[derive(Clone, Debug)]
pub struct Watched<'a> {
    /// The name that policy and profile get.
    pub name: &'a str,
    /// The command and its arguments.
    pub command: &'a [String],
    /// The plan that it ran under.
    pub plan: &'a SandboxPlan,
    /// What it did.
    pub seen: &'a Observations,
    /// Highest memory use by its cgroup's counter, bytes.
    pub memory_peak: Option<u64>,
    /// How it ended, one sentence.
    pub end: &'a str,
}

/// A policy and its profile, as texts of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// `NAME.toml`
    pub policy: String,
    /// `seccomp/NAME.toml`
    pub profile: String,
    /// How many system calls are allowed.
    pub calls: usize,
    /// How many paths are shown.
    pub paths: usize,
}

/// Proposes a policy for what was watched.
///
/// Errors: the plan is not that of a watched sandbox.
pub fn propose(watched: &Watched<'_>) -> Result<Proposal, NotWatched> {
    let watch = watched.plan.watch.as_deref().ok_or(NotWatched)?;
    let shown = files::shown(watched, watch);
    let allowed = calls::allowed(watched.seen, watch.profile.as_ref());
    let calls = allowed.iter().map(|entry| entry.calls.len()).sum();
    let refused = calls::refused(&allowed, watch);
    Ok(Proposal {
        policy: text::policy(watched, watch, &shown),
        profile: text::profile(watched, &allowed, &refused),
        calls,
        paths: shown.paths.len(),
    })
}

/// The sandbox was not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox was not made to be watched")]
pub struct NotWatched;

#[cfg(test)]
mod tests;
