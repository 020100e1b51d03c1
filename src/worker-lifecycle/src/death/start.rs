//! Deaths before, and because of, an answer that did not come.

use nix::errno::Errno;
use rbee_hive_policy::LimitKey;
use rbee_hive_sandbox::SetupFailure;

use super::size::size;
use super::{Case, Findings, memory};

/// From this part of its time a limit on CPUs is worth a word, percent of the periods.
const THROTTLED: u64 = 50;

pub(super) fn setup_failed(failure: &SetupFailure, found: &mut Findings) {
    found.prove("step", Some(failure.step.clone()).filter(|step| !step.is_empty()), |step| format!("step \"{step}\""));
    found.prove("errno", failure.errno, |n| Errno::from_raw(n).to_string());
    match &failure.hint {
        Some(hint) => found.advise(hint.clone()),
        None => found.advise("`rbee-hive doctor` says what this host can do, and what to do about what it cannot"),
    }
}

pub(super) fn exec_failed(errno: i32, found: &mut Findings) {
    found.prove("errno", Some(errno), |n| format!("execve: {}", Errno::from_raw(n)));
    found.advise(match Errno::from_raw(errno) {
        Errno::ENOENT => {
            "the program, its interpreter or its loader is not there inside: look at binary_dirs, library_dirs and [filesystem]"
        }
        Errno::EACCES | Errno::EPERM => "it is not executable for the worker's user: look at its mode, and at mounts with noexec",
        Errno::ENOEXEC => "it is no program for this machine: take a build for it",
        Errno::ENOMEM | Errno::EAGAIN => "there was no room for it: raise memory_max or pids_max",
        _ => "look at the binary that the policy names",
    });
}

pub(super) fn start_timeout(case: &Case<'_>, last_probe: Option<&str>, found: &mut Findings) {
    unanswered(case, last_probe, found);
    match last_probe.unwrap_or_default() {
        probe if probe.contains("503") => {
            found.advise("it was still loading: raise [readiness] start_timeout and stall_timeout, or take a smaller model")
        }
        probe if probe.contains("refused") => found.advise("nothing listens on its port: the command has to say {host} and {port}"),
        _ => found.advise("raise [readiness] start_timeout and stall_timeout, or see in its last lines what it waits for"),
    }
}

pub(super) fn health_failed(case: &Case<'_>, last_probe: Option<&str>, found: &mut Findings) {
    unanswered(case, last_probe, found);
    found.advise("it was there and did not answer: look at its last lines, and whether it is short of CPU or memory");
}

fn unanswered(case: &Case<'_>, last_probe: Option<&str>, found: &mut Findings) {
    found.prove("last_probe", last_probe.or(case.last_probe).map(str::to_owned), |text| format!("last probe: {text}"));
    memory::kills(case, found);
    let resources = &case.view.resources;
    let (periods, throttled) = (resources.cpu_throttled.periods, resources.cpu_throttled.throttled_periods);
    if let (Some(periods @ 1..), Some(throttled)) = (periods, throttled)
        && throttled * 100 / periods >= THROTTLED
    {
        found.prove("cpu_throttled", Some(throttled), |n| format!("without a CPU in {n} of {periods} periods"));
        found.advise("raise cpus: its limit kept it from running");
    }
    if let (Some(peak), Some(limit)) = (resources.memory_peak, case.limit(LimitKey::MemoryMax))
        && peak >= limit / 10 * 9
    {
        found.prove("memory_peak", Some(peak), |n| format!("peak {} of memory_max {}", size(n), size(limit)));
        found.advise("raise memory_max: near its limit it reads the same pages again and again");
    }
}
