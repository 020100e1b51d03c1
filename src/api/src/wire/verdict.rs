//! How a worker ended.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A verdict with its sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Kind and figures.
    #[serde(flatten)]
    pub kind: VerdictKind,
    /// One sentence for a person.
    #[serde(default)]
    pub message: String,
}

/// The kind, known to this version or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VerdictKind {
    /// One of `API.md`'s.
    Known(KnownVerdict),
    /// A later version's, or one whose figures have another shape.
    Other {
        /// Its name.
        kind: String,
        /// Its figures, and the message.
        #[serde(flatten)]
        figures: Map<String, Value>,
    },
}

/// The kinds of `API.md`. A figure that was not measured is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KnownVerdict {
    /// Ended by itself.
    Exited {
        /// Exit status, 0–255.
        code: i32,
    },
    /// Ended by a signal that the hive did not send.
    Signaled {
        /// Signal number.
        signal: i32,
        /// Whether a core was dumped.
        #[serde(default)]
        core_dumped: bool,
    },
    /// Killed by the kernel for want of memory.
    OomKilled {
        /// Highest memory use, bytes.
        #[serde(default)]
        peak: Option<u64>,
        /// The limit, bytes.
        #[serde(default)]
        limit: Option<u64>,
        /// The killed process.
        #[serde(default)]
        victim: Option<String>,
        /// Its number on the hive's machine.
        #[serde(default)]
        victim_pid: Option<i32>,
        /// What it had in memory, bytes.
        #[serde(default)]
        victim_memory: Option<u64>,
        /// What was killed: `main`, `group` or `child`.
        #[serde(default)]
        scope: Option<String>,
        /// Who ran out: `worker`, `nested` or `host`.
        #[serde(default)]
        bound: Option<String>,
    },
    /// Killed by the seccomp filter.
    SeccompKilled {
        /// The call's name.
        #[serde(default)]
        syscall: Option<String>,
        /// Its number on the hive's machine.
        #[serde(default)]
        number: Option<i32>,
        /// Its six arguments, hexadecimal.
        #[serde(default)]
        args: Option<Vec<String>>,
    },
    /// The sandbox could not be made.
    SetupFailed {
        /// The step's name.
        step: String,
        /// `errno(3)` number.
        #[serde(default)]
        errno: Option<i32>,
        /// What to do about it.
        #[serde(default)]
        hint: Option<String>,
    },
    /// `execve` failed.
    ExecFailed {
        /// `errno(3)` number.
        errno: i32,
    },
    /// Not ready in time.
    StartTimeout {
        /// What the last probe saw.
        #[serde(default)]
        last_probe: Option<String>,
    },
    /// Ready once, then failed its probes.
    HealthFailed {
        /// What the last probe saw.
        #[serde(default)]
        last_probe: Option<String>,
    },
    /// Ended on request.
    Stopped {
        /// `request`, `shutdown`, `hive_exit`, `readiness`, `drift`, `idle` or `evicted`.
        by: String,
        /// Whether it had to be killed.
        forced: bool,
        /// Exit status, if it ended by itself.
        #[serde(default)]
        code: Option<i32>,
        /// Signal, if one ended it.
        #[serde(default)]
        signal: Option<i32>,
    },
    /// Processes that don't die.
    Unkillable {
        /// Their pids as the host sees them.
        pids: Vec<i32>,
    },
    /// Nobody saw how it ended.
    Lost {
        /// Why not.
        why: String,
    },
}

impl VerdictKind {
    /// The kind's name as on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(known) => known.name(),
            Self::Other { kind, .. } => kind,
        }
    }
}

impl KnownVerdict {
    fn name(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "exited",
            Self::Signaled { .. } => "signaled",
            Self::OomKilled { .. } => "oom_killed",
            Self::SeccompKilled { .. } => "seccomp_killed",
            Self::SetupFailed { .. } => "setup_failed",
            Self::ExecFailed { .. } => "exec_failed",
            Self::StartTimeout { .. } => "start_timeout",
            Self::HealthFailed { .. } => "health_failed",
            Self::Stopped { .. } => "stopped",
            Self::Unkillable { .. } => "unkillable",
            Self::Lost { .. } => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Verdict {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn known_kinds_are_read_with_their_figures() {
        let verdict = read(json!({"kind": "oom_killed", "peak": 5, "limit": null, "victim": null, "message": "out of memory"}));
        let known = KnownVerdict::OomKilled {
            peak: Some(5),
            limit: None,
            victim: None,
            victim_pid: None,
            victim_memory: None,
            scope: None,
            bound: None,
        };
        assert_eq!(verdict.kind, VerdictKind::Known(known), "an older hive says less");
        assert_eq!((verdict.kind.name(), verdict.message.as_str()), ("oom_killed", "out of memory"));
    }

    #[test]
    fn names_are_the_tags_on_the_wire() {
        let all = [
            json!({"kind": "exited", "code": 0}),
            json!({"kind": "signaled", "signal": 9, "core_dumped": false}),
            json!({"kind": "seccomp_killed"}),
            json!({"kind": "setup_failed", "step": "mount proc"}),
            json!({"kind": "exec_failed", "errno": 2}),
            json!({"kind": "start_timeout"}),
            json!({"kind": "health_failed"}),
            json!({"kind": "stopped", "by": "request", "forced": false}),
            json!({"kind": "unkillable", "pids": [1]}),
            json!({"kind": "lost", "why": "w"}),
        ];
        for value in all {
            let verdict = read(value.clone());
            assert!(matches!(verdict.kind, VerdictKind::Known(_)), "{value} is not known");
            assert_eq!(verdict.kind.name(), value["kind"].as_str().unwrap());
        }
    }

    #[test]
    fn a_later_versions_kind_keeps_its_name_and_figures() {
        let verdict = read(json!({"kind": "evaporated", "degrees": 100, "message": "it was hot"}));
        assert_eq!((verdict.kind.name(), verdict.message.as_str()), ("evaporated", "it was hot"));
        assert!(matches!(verdict.kind, VerdictKind::Other { figures, .. } if figures["degrees"] == 100));
        assert_eq!(read(json!({"kind": "exited", "code": "three"})).kind.name(), "exited");
    }
}
