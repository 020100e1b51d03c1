//! Ends that were asked for, and ends that do not come.

use rbee_hive_policy::LimitKey;
use rbee_hive_sandbox::{StoppedBy, StuckProcess};

use super::size::size;
use super::{Case, Findings};

pub(super) fn stopped(case: &Case<'_>, (by, forced): (StoppedBy, bool), found: &mut Findings) {
    let word = serde_json::to_value(by).ok().and_then(|v| v.as_str().map(str::to_owned));
    found.prove("by", word, |by| format!("stopped by {by}"));
    found.prove("forced", Some(forced).filter(|forced| *forced), |_| "killed at the end of its grace".into());
    if by == StoppedBy::Oom {
        found.prove("memory_max", case.limit(LimitKey::MemoryMax), |n| format!("memory_max {}", size(n)));
        found.prove("memory_peak", case.view.resources.memory_peak, |n| format!("peak {}", size(n)));
    }
    if by == StoppedBy::Drift {
        found.prove("drift", Some(case.view.drift.join("; ")).filter(|d| !d.is_empty()), |text| text);
    }
    match by {
        StoppedBy::Request | StoppedBy::Shutdown if forced => {
            found.advise("it did not end on its stop signal: raise [worker] stop_grace, or let it handle that signal");
        }
        StoppedBy::Request | StoppedBy::Shutdown => {}
        StoppedBy::HiveExit => found.advise("[worker] on_hive_exit = \"keep\" lets workers outlive their hive"),
        StoppedBy::Readiness => found.advise("raise [readiness] start_timeout and stall_timeout"),
        StoppedBy::Drift => found.advise("something has changed its sandbox: see the drift; [verify] on_drift says what follows"),
        StoppedBy::GpuMemory => found.advise("raise [devices] gpu_memory_max, or let it use less"),
        StoppedBy::Oom => {
            found.advise("raise memory_max, or use less; [worker] on_oom = \"continue\" lets it go on without what was killed")
        }
        StoppedBy::Idle | StoppedBy::Evicted => found.advise("[idle] of its policy says when it goes: raise after or max_warm to keep it"),
    }
}

pub(super) fn unkillable((pids, processes): (&[i32], &[StuckProcess]), found: &mut Findings) {
    found.prove("pids", Some(pids.len()), |n| format!("{n} processes outlive SIGKILL"));
    for process in processes {
        found.prove("waits_in", Some(process.sentence()), |text| text);
    }
    found.advise(
        "nothing ends them but what they wait for: a driver, a disk or a file server; see the kernel's log, and /proc/<pid>/stack as root",
    );
    found
        .advise("the worker keeps its port and its leases until they are gone; a driver that never answers takes a restart of the machine");
}
