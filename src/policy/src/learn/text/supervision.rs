//! When it is started again, and how it is asked whether it answers: no watch tells, so it is the base's.

use std::fmt::Write as _;

use super::words::{line, quoted};
use super::{Command, choice};
use crate::file::Policy;
use crate::{LivenessPlan, LivenessProbe, RestartPlan};

pub(super) fn write(text: &mut String, base: &Policy, command: &Command) {
    let RestartPlan { when, max_restarts, stable_ms, backoff_ms } = base.restart;
    let _ = write!(text, "\n[restart]\nwhen = {}\nmax_restarts = {max_restarts}\n", choice(&when));
    line(text, "stable", &time(stable_ms), "");
    line(text, "backoff", &time(backoff_ms), "");
    if let Some(plan) = &base.liveness {
        liveness(text, plan, command);
    }
}

fn liveness(text: &mut String, plan: &LivenessPlan, command: &Command) {
    let LivenessPlan { probe, interval_ms, timeout_ms, failures, successes, unhealthy_timeout_ms, then } = plan;
    // What was learnt may be a worker without a port, at which nothing can be asked.
    if *probe != LivenessProbe::Watchdog && !command.port {
        return;
    }
    text.push_str("\n[liveness]\n");
    match probe {
        LivenessProbe::Http { path } => line(text, "http", &quoted(path), ""),
        LivenessProbe::Tcp => line(text, "tcp", "true", ""),
        LivenessProbe::Watchdog => line(text, "watchdog", "true", ""),
    }
    line(text, "interval", &time(*interval_ms), "");
    if *probe != LivenessProbe::Watchdog {
        line(text, "timeout", &time(*timeout_ms), "");
    }
    line(text, "failures", &failures.to_string(), "");
    line(text, "successes", &successes.to_string(), "");
    line(text, "unhealthy_timeout", &time(*unhealthy_timeout_ms), "");
    line(text, "then", &choice(then), "");
}

fn time(ms: u64) -> String {
    quoted(&format!("{ms}ms"))
}
