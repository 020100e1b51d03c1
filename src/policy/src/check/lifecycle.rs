//! Starting, stopping and restarting.

use super::Findings;
use crate::file::signal_name;
use crate::plan::{NetworkMode, Readiness};
use crate::{IdleAction, LivenessProbe, OnUnhealthy, RestartWhen};

pub(super) fn look(findings: &mut Findings<'_>) {
    let policy = findings.policy();
    let stop = &policy.worker.stop;
    if signal_name(stop.signal) == Some("SIGKILL") && stop.grace_ms > 0 && findings.is_written("worker.stop_signal") {
        findings.warning(
            "worker.stop_signal",
            "nothing is left to wait for after SIGKILL; say stop_grace = \"0\", or a signal that a worker can obey",
        );
    }
    restart(findings);
    liveness(findings);
    idle(findings);
    let readiness = &policy.readiness;
    let both = findings.is_written("readiness.stall_timeout") && findings.is_written("readiness.start_timeout");
    if both && readiness.stall_timeout_ms > readiness.start_timeout_ms {
        findings.warning("readiness.stall_timeout", "start_timeout ends the start before; lower it or raise start_timeout");
    }
    if readiness.probe == Readiness::None {
        for key in ["readiness.start_timeout", "readiness.stall_timeout"] {
            if findings.traced.origins.in_own_file(key).is_some() {
                findings.warning(key, "a worker without a probe is ready when it has been executed; remove it, or say how it is probed");
            }
        }
    }
    if !policy.worker.command.iter().any(|part| part.contains("{model}")) && findings.is_written("worker.command") {
        findings.note("worker.command", "names no {model}: a request's model is not handed to the worker");
    }
}

fn restart(findings: &mut Findings<'_>) {
    if findings.policy().restart.when == RestartWhen::Never {
        for key in ["restart.max_restarts", "restart.stable", "restart.backoff"] {
            if findings.is_written(key) {
                findings.warning(key, "it is never restarted; say when = \"on-failure\", or remove it");
            }
        }
    }
}

fn liveness(findings: &mut Findings<'_>) {
    let Some(plan) = findings.policy().liveness.clone() else { return };
    if plan.probe != LivenessProbe::Watchdog && plan.timeout_ms > plan.interval_ms {
        findings.note("liveness.timeout", "an answer may take longer than the interval: the next probe waits for it");
    }
    if plan.then == OnUnhealthy::Nothing && findings.is_written("liveness.unhealthy_timeout") {
        findings.warning("liveness.unhealthy_timeout", "nothing follows from it; say then = \"restart\" or \"stop\", or remove it");
    }
    if plan.then == OnUnhealthy::Restart && plan.unhealthy_timeout_ms >= findings.policy().restart.stable_ms {
        findings.note(
            "liveness.unhealthy_timeout",
            "it is longer than restart.stable: a worker that hangs counts as stable before it is ended",
        );
    }
}

fn idle(findings: &mut Findings<'_>) {
    let policy = findings.policy();
    if policy.idle.after_ms.is_none() {
        return;
    }
    if policy.idle.action == IdleAction::None && policy.idle.max_warm.is_none() {
        findings.warning("idle.after", "nothing follows from it; say action = \"reclaim\", \"freeze\" or \"stop\", or max_warm");
    }
    if policy.network == NetworkMode::Host {
        let text = "the hive does not see connections to a worker in the host's network: that it is idle is told by its CPU time alone";
        findings.note("idle.after", text);
    }
}
