//! `[idle]`: what it says, and what it must not say.

use super::Policy;
use super::raw::RawPolicy;
use super::resolve::Wrong;
use crate::plan::NetworkMode;
use crate::{IdleAction, IdlePlan};

/// A shorter time is over before it is looked at.
const MIN_AFTER_MS: u64 = 1_000;

pub(super) fn resolve(raw: &RawPolicy) -> Result<IdlePlan, Wrong> {
    let table = &raw.idle;
    let after_ms = table.after.map(|m| m.0).filter(|ms| *ms > 0);
    let action = table.action.unwrap_or_default();
    match after_ms {
        Some(ms) if ms < MIN_AFTER_MS => Err(("idle.after", format!("{ms} ms is too short: at least \"1s\", or \"0\" for never"))),
        None if action != IdleAction::None => Err(("idle.action", "needs after = \"…\": no worker is idle without it".to_owned())),
        None if table.max_warm.is_some() => Err(("idle.max_warm", "needs after = \"…\": only an idle worker makes room".to_owned())),
        _ if table.max_warm == Some(0) => Err(("idle.max_warm", "must not be 0: no worker could be started".to_owned())),
        _ => Ok(IdlePlan { after_ms, action, max_warm: table.max_warm }),
    }
}

/// What sleeps until a connection comes must have a port at which the hive sees it coming.
pub(super) fn check_waking(policy: &Policy) -> Result<(), String> {
    let wakes = policy.takes_port() && policy.network == NetworkMode::Private;
    match policy.idle.action {
        IdleAction::Freeze if !wakes => {
            Err("\"freeze\" needs a port that the hive holds (network.mode = \"private\"): nothing else would wake the worker".to_owned())
        }
        _ => Ok(()),
    }
}
