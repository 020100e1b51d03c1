//! Starting, stopping and restarting.

use super::Findings;
use crate::IdleAction;
use crate::file::{RestartWhen, signal_name};
use crate::plan::{NetworkMode, Readiness};

pub(super) fn look(findings: &mut Findings<'_>) {
    let policy = findings.policy();
    let stop = &policy.worker.stop;
    if signal_name(stop.signal) == Some("SIGKILL") && stop.grace_ms > 0 && findings.is_written("worker.stop_signal") {
        findings.warning(
            "worker.stop_signal",
            "nothing is left to wait for after SIGKILL; say stop_grace = \"0\", or a signal that a worker can obey",
        );
    }
    if policy.restart.when == RestartWhen::Never && findings.is_written("restart.max_restarts") {
        findings.warning("restart.max_restarts", "it is never restarted; say when = \"on-failure\", or remove it");
    }
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
