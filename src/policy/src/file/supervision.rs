//! `[restart]` and `[liveness]`: what they say, and what they must not say.

use super::Policy;
use super::raw::RawPolicy;
use super::resolve::Wrong;
use crate::{LivenessPlan, LivenessProbe, OnUnhealthy, RestartPlan, RestartWhen};

/// A shorter pause would spin.
const MIN_BACKOFF_MS: u64 = 100;
/// More often would cost more than it tells.
const MIN_INTERVAL_MS: u64 = 1_000;
const DEFAULT_INTERVAL_MS: u64 = 10_000;
const DEFAULT_TIMEOUT_MS: u64 = 5_000;
const DEFAULT_UNHEALTHY_MS: u64 = 30_000;
/// A probe may meet a busy moment; who promised to speak within a time and did not has broken a promise.
const DEFAULT_FAILURES: u32 = 3;
const WATCHDOG_FAILURES: u32 = 1;

pub(super) fn restart(raw: &RawPolicy) -> Result<RestartPlan, Wrong> {
    let (table, default) = (&raw.restart, RestartPlan::default());
    let plan = RestartPlan {
        when: table.when.unwrap_or(default.when),
        max_restarts: table.max_restarts.unwrap_or(default.max_restarts),
        stable_ms: table.stable.map_or(default.stable_ms, |m| m.0),
        backoff_ms: table.backoff.map_or(default.backoff_ms, |m| m.0),
    };
    match plan {
        RestartPlan { max_restarts: 0, when: RestartWhen::OnFailure | RestartWhen::Always, .. } => {
            Err(("restart.max_restarts", "must not be 0: say when = \"never\" for a worker that is not started again".to_owned()))
        }
        RestartPlan { stable_ms: 0, .. } => Err(("restart.stable", "must not be 0: no worker would ever be given up".to_owned())),
        RestartPlan { backoff_ms, .. } if backoff_ms < MIN_BACKOFF_MS => {
            Err(("restart.backoff", format!("{backoff_ms} ms is too short: at least \"100ms\"")))
        }
        plan => Ok(plan),
    }
}

pub(super) fn liveness(raw: &RawPolicy, restart: RestartPlan) -> Result<Option<LivenessPlan>, Wrong> {
    let table = &raw.liveness;
    let Some(probe) = probe(raw)? else { return Ok(None) };
    let watchdog = probe == LivenessProbe::Watchdog;
    if watchdog && table.timeout.is_some() {
        return Err(("liveness.timeout", "nothing is asked of a worker with a watchdog: say interval".to_owned()));
    }
    let interval_ms = table.interval.map_or(DEFAULT_INTERVAL_MS, |m| m.0);
    if interval_ms < MIN_INTERVAL_MS {
        return Err(("liveness.interval", format!("{interval_ms} ms is too short: at least \"1s\"")));
    }
    let timeout_ms = table.timeout.map_or(DEFAULT_TIMEOUT_MS, |m| m.0);
    if timeout_ms == 0 {
        return Err(("liveness.timeout", "must not be 0: no answer could come in time".to_owned()));
    }
    let restarts = restart.when != RestartWhen::Never;
    let then = match table.then {
        Some(OnUnhealthy::Restart) if !restarts => {
            return Err(("liveness.then", "\"restart\" needs [restart] when = \"on-failure\" or \"always\"".to_owned()));
        }
        Some(then) => then,
        None if restarts => OnUnhealthy::Restart,
        None => OnUnhealthy::Stop,
    };
    Ok(Some(LivenessPlan {
        probe,
        interval_ms,
        timeout_ms,
        failures: count("liveness.failures", table.failures, if watchdog { WATCHDOG_FAILURES } else { DEFAULT_FAILURES })?,
        successes: count("liveness.successes", table.successes, 1)?,
        unhealthy_timeout_ms: table.unhealthy_timeout.map_or(DEFAULT_UNHEALTHY_MS, |m| m.0),
        then,
    }))
}

fn probe(raw: &RawPolicy) -> Result<Option<LivenessProbe>, Wrong> {
    let table = &raw.liveness;
    let mut probes = Vec::new();
    if let Some(path) = &table.http {
        if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(("liveness.http", format!("{path:?} is not a path that starts with `/`")));
        }
        probes.push(LivenessProbe::Http { path: path.clone() });
    }
    let said = [(table.tcp, LivenessProbe::Tcp), (table.watchdog, LivenessProbe::Watchdog)];
    probes.extend(said.into_iter().filter(|(on, _)| *on == Some(true)).map(|(_, probe)| probe));
    if probes.len() > 1 {
        return Err(("liveness", "says more than one of http, tcp and watchdog".to_owned()));
    }
    let more = [table.interval, table.timeout, table.unhealthy_timeout].iter().any(Option::is_some)
        || table.failures.is_some()
        || table.successes.is_some()
        || table.then.is_some();
    match probes.pop() {
        None if more => Err(("liveness", "says how often and not what: one of http, tcp and watchdog is missing".to_owned())),
        probe => Ok(probe),
    }
}

fn count(key: &'static str, given: Option<u32>, default: u32) -> Result<u32, Wrong> {
    match given {
        Some(0) => Err((key, "must not be 0".to_owned())),
        given => Ok(given.unwrap_or(default)),
    }
}

/// What is asked over a port needs one.
pub(super) fn check_reachable(policy: &Policy) -> Result<(), String> {
    let asked = policy.liveness.as_ref().is_some_and(|plan| plan.probe != LivenessProbe::Watchdog);
    if asked && !policy.takes_port() {
        return Err("probes a port, and workers under this policy take none".to_owned());
    }
    Ok(())
}
