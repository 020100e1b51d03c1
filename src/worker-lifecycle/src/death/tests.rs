//! A story for each verdict.

use std::collections::BTreeMap;

use rbee_hive_policy::{LimitKey, LimitValue};
use rbee_hive_sandbox::protocol::{CgroupMode, Resources, Throttled};
use rbee_hive_sandbox::{OomBound, OomScope, SetupFailure, StoppedBy, StuckProcess, Verdict};

use super::*;
use crate::CgroupView;

const GIB: u64 = 1 << 30;

fn view(verdict: Option<Verdict>, resources: Resources) -> WorkerView {
    WorkerView {
        worker_id: "w".into(),
        model: "m".into(),
        devices: vec![],
        policy: "p".into(),
        status_text: None,
        labels: BTreeMap::new(),
        state: WorkerState::Failed,
        generation: 5,
        restarts: 0,
        pid: None,
        init_pid: Some(7),
        port: None,
        endpoint: None,
        created_at: "2026-01-01T00:00:00Z".into(),
        started_at: Some("2026-01-01T00:00:01Z".into()),
        ready_at: None,
        ended_at: Some("2026-01-01T00:00:02Z".into()),
        cgroup: CgroupView { mode: CgroupMode::Unified, path: None },
        limits: [(LimitKey::MemoryMax, LimitValue::Count(2 * GIB)), (LimitKey::PidsMax, LimitValue::Count(8))].into(),
        not_in_force: vec![],
        drift: vec!["its cgroup is another one".into()],
        verified: None,
        gpu_memory: None,
        resources,
        unmeasured: vec![],
        verdict: verdict.map(crate::task::said),
    }
}

fn story(verdict: Verdict, resources: Resources) -> WorkerStory {
    let limits = [LimitView {
        limit: LimitKey::MemoryMax,
        value: LimitValue::Count(2 * GIB),
        origin: LimitOrigin::Policy,
        from: Some("p.toml:11".into()),
    }];
    WorkerStory::of(&view(Some(verdict), resources), &limits, Beside { last_probe: Some("HTTP status 503".into()), ..Beside::default() })
}

fn oom(bound: Option<OomBound>, limit: Option<u64>) -> Verdict {
    let victim = Some("llama-server".to_owned());
    Verdict::OomKilled {
        peak: Some(2 * GIB),
        limit,
        victim,
        victim_pid: Some(9),
        victim_memory: Some(GIB),
        scope: Some(OomScope::Main),
        bound,
    }
}

#[test]
fn a_death_for_want_of_memory_is_proved_and_mended() {
    let own = story(oom(Some(OomBound::Worker), Some(2 * GIB)), Resources { oom_kills: Some(1), ..Resources::default() });
    let line = "memory_max 2 GiB, peak 2 GiB, victim llama-server, which had 1 GiB: raise memory_max, or use a smaller context or model";
    assert_eq!(own.summary.as_deref(), Some(line));
    assert!(own.remedies[1].contains("set by p.toml:11"), "{:?}", own.remedies);
    let host = story(oom(Some(OomBound::Host), None), Resources::default());
    assert!(host.remedies.iter().all(|r| !r.starts_with("raise memory_max")), "the host's want is not mended by that: {:?}", host.remedies);
}

#[test]
fn every_verdict_has_figures_that_prove_it_and_a_remedy() {
    let failure = SetupFailure { step: "mount proc".into(), errno: Some(1), message: "m".into(), hint: Some("mount it".into()) };
    let stuck = StuckProcess { pid: Some(9), name: Some("a".into()), wchan: Some("folio_wait_bit".into()), syscall: Some("read".into()) };
    let stopped = |by, forced| Verdict::Stopped { by, forced, code: None, signal: None };
    let call = |syscall: Option<&str>, number| Verdict::SeccompKilled { syscall: syscall.map(Into::into), number, args: None };
    let table: [(Verdict, &str, &str); 22] = [
        (Verdict::Exited { code: 0 }, "status 0", "nothing failed"),
        (Verdict::Exited { code: 3 }, "last probe: HTTP status 503", "its last lines"),
        (Verdict::Exited { code: 127 }, "before it was ready", "missing or not executable"),
        (Verdict::Exited { code: 137 }, "SIGKILL", "its last lines"),
        (Verdict::Signaled { signal: 4, core_dumped: true }, "SIGILL, with a core dump", "for this CPU"),
        (Verdict::Signaled { signal: 11, core_dumped: false }, "SIGSEGV", "a defect of the program"),
        (Verdict::Signaled { signal: 9, core_dumped: false }, "not for want of memory (oom_kills 0)", "somebody else on the host"),
        (Verdict::Signaled { signal: 40, core_dumped: false }, "signal 40", "the timeline"),
        (oom(None, None), "victim llama-server", "which limit was reached is not known"),
        (call(Some("mount"), Some(165)), "system call mount", "why it calls mount"),
        (call(None, Some(5)), "number 5", "another architecture"),
        (Verdict::SetupFailed(failure), "step \"mount proc\"", "mount it"),
        (Verdict::ExecFailed { errno: 2, message: "m".into() }, "ENOENT", "loader"),
        (Verdict::StartTimeout { last_probe: Some("HTTP status 503".into()) }, "503", "still loading"),
        (Verdict::StartTimeout { last_probe: Some("connection refused".into()) }, "refused", "{port}"),
        (Verdict::HealthFailed { last_probe: Some("no answer".into()) }, "no answer", "did not answer"),
        (stopped(StoppedBy::Request, true), "killed at the end of its grace", "stop_grace"),
        (stopped(StoppedBy::HiveExit, true), "stopped by hive_exit", "on_hive_exit"),
        (stopped(StoppedBy::Drift, true), "its cgroup is another one", "on_drift"),
        (stopped(StoppedBy::Oom, true), "memory_max 2 GiB", "on_oom"),
        (
            Verdict::Unkillable { pids: vec![9], processes: vec![stuck] },
            "a (pid 9) in folio_wait_bit, called by read",
            "what they wait for",
        ),
        (Verdict::Lost { why: "the init went".into() }, "the init went", "the kernel's"),
    ];
    for (verdict, figure, remedy) in table {
        let story = story(verdict.clone(), Resources { oom_kills: Some(0), ..Resources::default() });
        let summary = story.summary.unwrap();
        assert!(summary.contains(figure) || story.evidence.iter().any(|e| e.text.contains(figure)), "{figure:?} is not in {summary:?}");
        assert!(story.remedies.iter().any(|r| r.contains(remedy)), "{remedy:?} is not in {:?}", story.remedies);
        assert!(story.evidence.iter().all(|e| !e.value.is_null()), "{:?}", story.evidence);
    }
    assert!(story(stopped(StoppedBy::Request, false), Resources::default()).remedies.is_empty(), "what went as it should needs none");
}

#[test]
fn counters_that_explain_more_are_told_and_what_was_not_measured_is_not() {
    let texts = |verdict, resources| story(verdict, resources).evidence.into_iter().map(|e| e.text).collect::<Vec<_>>().join("; ");
    let at_limit = Resources { pids_peak: Some(8), oom_kills: Some(2), ..Resources::default() };
    let told = texts(Verdict::Exited { code: 1 }, at_limit);
    assert!(told.contains("8 tasks, as many as pids_max allows") && told.contains("killed 2 of its processes"), "{told}");
    let throttled = Throttled { periods: Some(100), throttled_periods: Some(90), usec: None };
    let slow = Resources { cpu_throttled: throttled, memory_peak: Some(2 * GIB), ..Resources::default() };
    let told = texts(Verdict::StartTimeout { last_probe: None }, slow);
    assert!(told.contains("90 of 100 periods") && told.contains("peak 2 GiB of memory_max 2 GiB"), "{told}");
    let told = texts(Verdict::Signaled { signal: 9, core_dumped: false }, Resources::default());
    assert!(!told.contains("oom_kills"), "nobody counted kills: {told}");
}

#[test]
fn a_worker_that_lives_has_no_end_to_explain_and_a_story_reads_back() {
    let alive = WorkerStory::of(&view(None, Resources::default()), &[], Beside::default());
    assert!(alive.summary.is_none() && alive.evidence.is_empty() && alive.remedies.is_empty());
    let story = story(oom(Some(OomBound::Worker), Some(GIB)), Resources::default());
    assert_eq!(serde_json::from_value::<WorkerStory>(serde_json::to_value(&story).unwrap()).unwrap(), story);
}

#[test]
fn a_probe_of_the_start_says_nothing_of_a_worker_that_was_ready() {
    let mut view = view(Some(Verdict::Exited { code: 3 }), Resources::default());
    view.ready_at = Some("2026-01-01T00:00:01Z".into());
    let beside = Beside { last_probe: Some("HTTP status 503".into()), ..Beside::default() };
    let story = WorkerStory::of(&view, &[], beside);
    assert!(story.last_probe.is_none() && story.evidence.iter().all(|e| !e.text.contains("503")), "{:?}", story.evidence);
}

/// Of a worker that ended so.
pub(super) fn explanation(worker_id: &str, verdict: Verdict) -> crate::Explanation {
    crate::Explanation {
        worker_id: worker_id.into(),
        policy: "p".into(),
        source: None,
        settings: None,
        limits: vec![],
        not_in_force: vec![],
        incidents: vec![],
        lives: vec![],
        exposure: None,
        story: story(verdict, Resources::default()),
    }
}
