//! A difference between a sandbox and its plan, as a sentence.

use std::fmt;

/// What of a sandbox differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// Namespaces of a process.
    Namespaces,
    /// Uid, gid, groups.
    Identity,
    /// Any of the five sets.
    Capabilities,
    /// no_new_privs.
    NoNewPrivs,
    /// Mode, or the number of filters.
    Seccomp,
    /// Mount table.
    Mounts,
    /// A descriptor that leads out of the sandbox.
    Descriptors,
    /// A resource limit of a process, or an interface file of its cgroup.
    Limits,
    /// Who is in which cgroup.
    Cgroup,
    /// Device list or program.
    Devices,
    /// `oom_score_adj`
    OomScoreAdj,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// What differs.
    pub aspect: Aspect,
    /// For a person: what is, and what was planned.
    pub sentence: String,
}

impl Drift {
    pub(super) fn new(aspect: Aspect, sentence: impl Into<String>) -> Self {
        Self { aspect, sentence: sentence.into() }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// What a verification has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Differences, sorted, each once.
    pub drift: Vec<Drift>,
    /// What could not be looked at, so that nothing is said of it.
    pub unseen: Vec<String>,
}
