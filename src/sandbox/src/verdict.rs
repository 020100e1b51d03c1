//! How a worker ended. What is not known is `None`, never guessed.

use serde::{Deserialize, Serialize};

use crate::oom::{OomBound, OomScope};

/// A failed step of making the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupFailure {
    /// The step's name, as in `mount proc`.
    pub step: String,
    /// `errno(3)` number, where a kernel call failed.
    pub errno: Option<i32>,
    /// The call with its arguments and the error's text.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

/// Who asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// A client's request.
    Request,
    /// The hive is shutting down.
    Shutdown,
    /// The hive went away and the policy says `kill`.
    HiveExit,
    /// It was not ready in time, or failed its probes.
    Readiness,
    /// Its sandbox was no longer as planned, and the policy says `kill`.
    Drift,
    /// It had more GPU memory than its limit, for too long.
    GpuMemory,
    /// The kernel had killed one of its processes for want of memory, and the policy says `stop` or `kill`.
    Oom,
    /// It was idle, and the policy says `stop`.
    Idle,
    /// It was idle, and another worker of its policy needed the place.
    Evicted,
}

/// The verdict on an ended worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// Ended by itself.
    Exited {
        /// Exit status, 0–255.
        code: i32,
    },
    /// Ended by a signal that we did not send.
    Signaled {
        /// Signal number.
        signal: i32,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
    /// Killed by the kernel for want of memory, or ended because one of its processes was.
    OomKilled {
        /// Highest memory use, bytes.
        peak: Option<u64>,
        /// The worker's limit, bytes; `None` where it was not the one that was reached.
        limit: Option<u64>,
        /// The killed process, where the kernel log named it: the worker's own, if that is among several.
        victim: Option<String>,
        /// Its number as the host sees it.
        #[serde(default)]
        victim_pid: Option<i32>,
        /// What it had in memory, bytes.
        #[serde(default)]
        victim_memory: Option<u64>,
        /// What of the worker was killed.
        #[serde(default)]
        scope: Option<OomScope>,
        /// Who ran out.
        #[serde(default)]
        bound: Option<OomBound>,
    },
    /// Killed by the seccomp filter.
    SeccompKilled {
        /// The call's name.
        syscall: Option<String>,
        /// Its number on this machine.
        number: Option<i32>,
        /// Its six arguments, hexadecimal.
        args: Option<Vec<String>>,
    },
    /// The sandbox could not be made.
    SetupFailed(SetupFailure),
    /// `execve` failed.
    ExecFailed {
        /// `errno(3)` number.
        errno: i32,
        /// Path and error text.
        message: String,
    },
    /// Not ready in time.
    StartTimeout {
        /// What the last probe saw.
        last_probe: Option<String>,
    },
    /// Ready once, then failed its probes.
    HealthFailed {
        /// What the last probe saw.
        last_probe: Option<String>,
    },
    /// Ended on request.
    Stopped {
        /// Who asked.
        by: StoppedBy,
        /// Whether it had to be killed after its grace time (or the grace was 0).
        forced: bool,
        /// Exit status, if it ended by itself.
        code: Option<i32>,
        /// Signal, if one ended it.
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

impl Verdict {
    /// The exit status of a shell for this end.
    pub fn exit_status(&self) -> u8 {
        let of_signal = |n: i32| u8::try_from(128 + n).unwrap_or(255);
        match self {
            Self::Exited { code } => u8::try_from(*code).unwrap_or(255),
            Self::Signaled { signal, .. } => of_signal(*signal),
            Self::OomKilled { .. } => of_signal(libc::SIGKILL),
            Self::SeccompKilled { .. } => of_signal(libc::SIGSYS),
            Self::ExecFailed { errno, .. } => {
                if *errno == libc::ENOENT {
                    127
                } else {
                    126
                }
            }
            Self::Stopped { code: Some(code), .. } => u8::try_from(*code).unwrap_or(255),
            Self::Stopped { signal: Some(signal), .. } => of_signal(*signal),
            _ => 125,
        }
    }

    /// One sentence for a person.
    pub fn sentence(&self) -> String {
        match self {
            Self::Exited { code } => format!("it exited with status {code}"),
            Self::Signaled { signal, core_dumped } => {
                let core = if *core_dumped { " and dumped core" } else { "" };
                format!("it was ended by {}{core}", signal_name(*signal))
            }
            Self::OomKilled { peak, limit, victim, scope, bound, .. } => oom_sentence((*peak, *limit), victim.as_deref(), *scope, *bound),
            Self::SeccompKilled { syscall, number, .. } => match (syscall, number) {
                (Some(name), _) => format!("it was killed for the system call {name}, which its policy denies"),
                (None, Some(number)) => {
                    format!("it was killed for system call {number} of another architecture, which its policy denies")
                }
                (None, None) => "it was killed for a system call that its policy denies".into(),
            },
            Self::SetupFailed(failure) => failure.message.clone(),
            Self::ExecFailed { message, .. } => message.clone(),
            Self::StartTimeout { last_probe } => format!("it was not ready in time{}", probe(last_probe.as_deref())),
            Self::HealthFailed { last_probe } => format!("it stopped answering{}", probe(last_probe.as_deref())),
            Self::Stopped { by, forced, .. } => stopped_sentence(*by, *forced),
            Self::Unkillable { pids } => format!("{} of its processes do not die: {pids:?}", pids.len()),
            Self::Lost { why } => format!("nobody saw how it ended: {why}"),
        }
    }
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |s| s.as_str().to_owned())
}

fn oom_sentence(
    (peak, limit): (Option<u64>, Option<u64>),
    victim: Option<&str>,
    scope: Option<OomScope>,
    bound: Option<OomBound>,
) -> String {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    let is_known = bound.is_some() || limit.is_some();
    let limit = limit.map_or(String::new(), |l| format!(" of {}", mib(l)));
    let peak = peak.map_or(String::new(), |p| format!(", peak {}", mib(p)));
    let victim = victim.map_or(String::new(), |v| format!(", victim {v}"));
    let whom = match scope {
        Some(OomScope::Group) => "all of it",
        Some(OomScope::Child) => "one of its processes",
        Some(OomScope::Main) | None => "it",
    };
    let (place, remedy) = match bound {
        None if !is_known => ("for want of memory, at whose limit is not known".to_owned(), "raise memory_max or use less"),
        Some(OomBound::Worker) | None => (format!("at its memory limit{limit}"), "raise memory_max or use less"),
        Some(OomBound::Nested) => ("at the limit of a group that it has within its own".to_owned(), "raise that limit or use less"),
        Some(OomBound::Host) => ("because the host was out of memory, not at its own limit".to_owned(), "run less beside it"),
    };
    let stopped = if scope == Some(OomScope::Child) { ", and it was stopped for that" } else { "" };
    format!("the kernel killed {whom} {place}{peak}{victim}{stopped}: {remedy}")
}

fn stopped_sentence(by: StoppedBy, forced: bool) -> String {
    let who = match by {
        StoppedBy::Request => "on request",
        StoppedBy::Shutdown => "because the hive shut down",
        StoppedBy::HiveExit => "because the hive went away",
        StoppedBy::Readiness => "because it was not ready",
        StoppedBy::Drift => "because its sandbox was no longer as planned",
        StoppedBy::GpuMemory => "because it stayed over its limit of GPU memory",
        StoppedBy::Oom => "because the kernel had killed one of its processes for want of memory",
        StoppedBy::Idle => "because it was idle",
        StoppedBy::Evicted => "because it was idle and another worker of its policy needed the place",
    };
    let how = if forced { ", killed at the end of its grace time" } else { "" };
    format!("it was stopped {who}{how}")
}

fn probe(last: Option<&str>) -> String {
    last.map_or(String::new(), |text| format!("; the last probe: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_of_before_is_read_and_means_what_it_meant() {
        let old = serde_json::json!({"kind": "oom_killed", "peak": 5, "limit": 1_048_576, "victim": null});
        let verdict: Verdict = serde_json::from_value(old).unwrap();
        assert!(verdict.sentence().starts_with("the kernel killed it at its memory limit of 1.0 MiB"), "{}", verdict.sentence());
    }

    #[test]
    fn the_hosts_want_of_memory_is_not_told_as_the_workers_limit() {
        let (victim_pid, victim_memory) = (Some(7), Some(4096));
        let told = |scope, bound| {
            let victim = Some("python3".to_owned());
            Verdict::OomKilled { peak: None, limit: None, victim, victim_pid, victim_memory, scope: Some(scope), bound: Some(bound) }
                .sentence()
        };
        for bound in [OomBound::Host, OomBound::Nested] {
            assert!(!told(OomScope::Main, bound).contains("its memory limit"), "{}", told(OomScope::Main, bound));
        }
        let unknown = Verdict::OomKilled {
            peak: None,
            limit: None,
            victim: None,
            victim_pid: None,
            victim_memory: None,
            scope: Some(OomScope::Main),
            bound: None,
        };
        assert!(!unknown.sentence().contains("its memory limit"), "{}", unknown.sentence());
        assert!(
            told(OomScope::Child, OomBound::Worker)
                .contains("one of its processes at its memory limit, victim python3, and it was stopped")
        );
    }
}
