//! Why a worker ended: the counters that prove its verdict, and what to change.
//!
//! ```text
//!  view (verdict, limits, counters) + last probe ──► findings by verdict, a file each ──► WorkerStory ──► store, for later and after a restart
//! ```
//! Every sentence rests on a figure that was measured; what was not measured is left out. Must never know how a story looks.

mod calls;
mod exit;
mod lost;
mod memory;
mod size;
mod start;
mod stop;
mod store;
#[cfg(test)]
mod tests;

use rbee_hive_policy::{LimitKey, LimitValue};
use rbee_hive_sandbox::Verdict;
use rbee_hive_sandbox::protocol::Resources;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use store::StoryStore;

use crate::events::Moment;
use crate::{LimitOrigin, LimitView, LogLine, VerdictView, WorkerState, WorkerView};

/// Figures in a summary.
const SUMMED_UP: usize = 4;

/// A figure that proves something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Its name.
    pub figure: String,
    /// Its value, in the units of the worker's object.
    pub value: Value,
    /// In a few words.
    pub text: String,
}

/// A worker's life and, where it is over, its end.
///
/// `summary` is one line: the figures, and after a colon the first remedy. `timeline` has the first and the last events of the worker;
/// `timeline_left_out` of them are missing in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStory {
    /// As it is, or was at the end.
    pub state: WorkerState,
    /// RFC 3339, as the next three.
    pub created_at: String,
    /// When it was executed.
    pub started_at: Option<String>,
    /// When it answered first.
    pub ready_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended; `None` while it lives.
    pub verdict: Option<VerdictView>,
    /// One line; `None` while it lives.
    pub summary: Option<String>,
    /// What proves the verdict.
    pub evidence: Vec<Evidence>,
    /// What to change, the likeliest first.
    pub remedies: Vec<String>,
    /// What a worker that never answered was last seen to do.
    pub last_probe: Option<String>,
    /// The last counters of its cgroup.
    pub resources: Resources,
    /// What happened, the oldest first.
    pub timeline: Vec<Moment>,
    /// Events that the timeline lacks.
    pub timeline_left_out: u64,
    /// Its last lines, the oldest first.
    pub log_tail: Vec<LogLine>,
}

/// What is known of a worker beside its view.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    /// What the last probe of its start saw.
    pub(crate) last_probe: Option<String>,
    /// Its events, and how many of them are left out.
    pub(crate) timeline: (Vec<Moment>, u64),
    /// Its last lines.
    pub(crate) log_tail: Vec<LogLine>,
}

impl WorkerStory {
    /// Of a worker that looks like this.
    pub(crate) fn of(view: &WorkerView, limits: &[LimitView], beside: Beside) -> Self {
        let Beside { last_probe, timeline: (timeline, timeline_left_out), log_tail } = beside;
        let last_probe = last_probe.filter(|_| view.ready_at.is_none());
        let Findings { evidence, remedies } = Case { view, limits, last_probe: last_probe.as_deref() }.findings();
        Self {
            state: view.state,
            created_at: view.created_at.clone(),
            started_at: view.started_at.clone(),
            ready_at: view.ready_at.clone(),
            ended_at: view.ended_at.clone(),
            restarts: view.restarts,
            summary: view.verdict.as_ref().map(|verdict| summary(&verdict.message, &evidence, &remedies)),
            verdict: view.verdict.clone(),
            evidence,
            remedies,
            last_probe,
            resources: view.resources,
            timeline,
            timeline_left_out,
            log_tail,
        }
    }
}

/// `memory_max 2 GiB, peak 2 GiB, victim llama-server: raise memory_max, or use a smaller context or model`
fn summary(message: &str, evidence: &[Evidence], remedies: &[String]) -> String {
    let figures: Vec<&str> = evidence.iter().take(SUMMED_UP).map(|e| e.text.as_str()).collect();
    let figures = if figures.is_empty() { message.to_owned() } else { figures.join(", ") };
    remedies.first().map_or_else(|| figures.clone(), |remedy| format!("{figures}: {remedy}"))
}

/// What was found out.
#[derive(Debug, Default)]
struct Findings {
    evidence: Vec<Evidence>,
    remedies: Vec<String>,
}

impl Findings {
    /// Adds a figure, where it was measured.
    fn prove<V: Into<Value> + Clone>(&mut self, figure: &str, value: Option<V>, text: impl FnOnce(V) -> String) {
        if let Some(value) = value {
            self.evidence.push(Evidence { figure: figure.into(), value: value.clone().into(), text: text(value) });
        }
    }

    fn advise(&mut self, remedy: impl Into<String>) {
        self.remedies.push(remedy.into());
    }
}

/// A worker that is looked at.
struct Case<'a> {
    view: &'a WorkerView,
    limits: &'a [LimitView],
    last_probe: Option<&'a str>,
}

impl Case<'_> {
    /// The table of contents: a file for each concern.
    fn findings(&self) -> Findings {
        let mut found = Findings::default();
        let Some(verdict) = self.view.verdict.as_ref().map(|v| &v.verdict) else { return found };
        match verdict {
            Verdict::Exited { code } => exit::exited(self, *code, &mut found),
            Verdict::Signaled { signal, core_dumped } => exit::signaled(self, (*signal, *core_dumped), &mut found),
            Verdict::OomKilled { .. } => memory::oom_killed(self, verdict, &mut found),
            Verdict::SeccompKilled { syscall, number, args } => {
                calls::seccomp_killed((syscall.as_deref(), *number, args.as_deref()), &mut found)
            }
            Verdict::SetupFailed(failure) => start::setup_failed(failure, &mut found),
            Verdict::ExecFailed { errno, .. } => start::exec_failed(*errno, &mut found),
            Verdict::StartTimeout { last_probe } => start::start_timeout(self, last_probe.as_deref(), &mut found),
            Verdict::HealthFailed { last_probe } => start::health_failed(self, last_probe.as_deref(), &mut found),
            Verdict::Stopped { by, forced, .. } => stop::stopped(self, (*by, *forced), &mut found),
            Verdict::Unkillable { pids, processes } => stop::unkillable((pids, processes), &mut found),
            Verdict::Lost { why } => lost::lost(self, why, &mut found),
        }
        found
    }

    /// A limit in bytes, or a count; `None` without one.
    fn limit(&self, key: LimitKey) -> Option<u64> {
        match self.view.limits.get(&key) {
            Some(LimitValue::Count(n)) => Some(*n),
            _ => None,
        }
    }

    /// ` (set by cpu-gguf.toml:11)`, or nothing where nobody knows.
    fn set_by(&self, key: LimitKey) -> String {
        let limit = self.limits.iter().find(|l| l.limit == key);
        match limit.map(|l| (l.origin, &l.from)) {
            Some((LimitOrigin::Policy, Some(from))) if from == "default" => " (a default of policies)".into(),
            Some((LimitOrigin::Policy, Some(from))) => format!(" (set by {from})"),
            Some((LimitOrigin::Request, _)) => " (set by the request)".into(),
            Some((LimitOrigin::Update, _)) => " (set by an update)".into(),
            _ => String::new(),
        }
    }

    fn was_ready(&self) -> bool {
        self.view.ready_at.is_some()
    }
}
