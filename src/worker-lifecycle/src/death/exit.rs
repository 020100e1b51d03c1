//! Deaths by themselves: a status, or a signal that nobody here has sent.

use nix::sys::signal::Signal;
use rbee_hive_policy::LimitKey;

use super::{Case, Findings, memory};

/// The first status by which a shell tells of a signal.
const SHELL: i32 = 128;

pub(super) fn exited(case: &Case<'_>, code: i32, found: &mut Findings) {
    found.prove("code", Some(code), |code| format!("status {code}"));
    let signal = Signal::try_from(code - SHELL).ok().filter(|_| code > SHELL);
    found.prove("signal", signal.map(|s| s.as_str().to_owned()), |name| format!("as a shell tells that {name} ended its command"));
    if !case.was_ready() {
        found.prove("ready_at", Some(false), |_| "before it was ready".into());
        found.prove("last_probe", case.last_probe.map(str::to_owned), |text| format!("last probe: {text}"));
    }
    memory::kills(case, found);
    if signal == Some(Signal::SIGKILL) {
        memory::no_kills(case, found);
    }
    tasks(case, found);
    match (code, case.was_ready()) {
        (0, _) => found.advise("nothing failed: it ended by itself; [restart] when = \"always\" would start it again"),
        (126 | 127, _) => found.advise("a program that it wanted to run is missing or not executable inside: look at its last lines, and at [filesystem] of its policy"),
        (_, false) => found.advise("look at its last lines: it mostly says there what of model, arguments or environment it did not like"),
        (_, true) => found.advise("look at its last lines; [restart] when = \"on-failure\" would start it again"),
    }
}

pub(super) fn signaled(case: &Case<'_>, (number, core_dumped): (i32, bool), found: &mut Findings) {
    let signal = Signal::try_from(number).ok();
    found.prove("signal", Some(number), |n| signal.map_or_else(|| format!("signal {n}"), |s| s.as_str().to_owned()));
    found.prove("core_dumped", Some(core_dumped).filter(|dumped| *dumped), |_| "with a core dump".into());
    if !case.was_ready() {
        found.prove("ready_at", Some(false), |_| "before it was ready".into());
    }
    memory::kills(case, found);
    memory::no_kills(case, found);
    tasks(case, found);
    found.advise(match signal {
        Some(Signal::SIGILL) => "its build uses instructions that this CPU lacks: take a build for this CPU",
        Some(Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGFPE | Signal::SIGTRAP) => {
            "a defect of the program or its libraries: another version may not have it"
        }
        Some(Signal::SIGABRT) => "it gave up by itself: its last lines mostly say why",
        Some(Signal::SIGKILL) => {
            "somebody else on the host has killed it, or worker_signal did: the timeline has what was asked of the hive"
        }
        Some(Signal::SIGXCPU) => "it used up its CPU time: raise that limit",
        Some(Signal::SIGXFSZ) => "a file became too large: raise that limit",
        Some(Signal::SIGSYS) => "somebody has sent it SIGSYS, or a filter of its own has: the policy's would be told as seccomp_killed",
        _ => "somebody has sent that signal: the timeline has what was asked of the hive",
    });
}

/// That it could start no further process or thread.
fn tasks(case: &Case<'_>, found: &mut Findings) {
    let (Some(peak), Some(limit)) = (case.view.resources.pids_peak, case.limit(LimitKey::PidsMax)) else { return };
    if peak >= limit {
        found.prove("pids_peak", Some(peak), |n| format!("{n} tasks, as many as pids_max allows"));
        found.advise("raise pids_max: it may have been refused a thread");
    }
}
