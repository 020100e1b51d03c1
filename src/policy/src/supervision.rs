//! What follows from a worker's end, and how it is known that it goes on answering.

use serde::{Deserialize, Serialize};

/// Longest pause before a new start, milliseconds.
pub const MAX_BACKOFF_MS: u64 = 300_000;

/// When a worker is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// Never.
    #[default]
    Never,
    /// After a failure.
    OnFailure,
    /// After every end that was not asked for.
    Always,
}

/// Whether, when and how often a worker is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPlan {
    /// After which ends.
    pub when: RestartWhen,
    /// How often in a row before it is given up.
    pub max_restarts: u32,
    /// How long it must have been ready for the count to begin anew, milliseconds.
    pub stable_ms: u64,
    /// Pause before the first new start, milliseconds; doubled before each further one.
    pub backoff_ms: u64,
}

impl Default for RestartPlan {
    fn default() -> Self {
        Self { when: RestartWhen::Never, max_restarts: 5, stable_ms: 600_000, backoff_ms: 10_000 }
    }
}

impl RestartPlan {
    /// Pause before the `number`th new start in a row, counted from 1, milliseconds.
    pub fn pause_ms(&self, number: u32) -> u64 {
        let doubled = 1_u64.checked_shl(number.saturating_sub(1)).and_then(|factor| self.backoff_ms.checked_mul(factor));
        doubled.unwrap_or(MAX_BACKOFF_MS).min(MAX_BACKOFF_MS)
    }
}

/// How a worker that is ready is asked whether it still answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LivenessProbe {
    /// `GET` of this path gives 2xx.
    Http {
        /// Path with its leading slash.
        path: String,
    },
    /// A connection is accepted.
    Tcp,
    /// It says `WATCHDOG=1` by sd_notify within each interval.
    Watchdog,
}

/// What follows for a worker that stays unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnhealthy {
    /// It is ended, and `[restart]` decides.
    Restart,
    /// It is ended for good.
    Stop,
    /// It is told, and goes on.
    Nothing,
}

/// How it is known that a worker goes on answering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivenessPlan {
    /// How it is asked.
    pub probe: LivenessProbe,
    /// Between two probes, or how long it may say nothing, milliseconds.
    pub interval_ms: u64,
    /// How long an answer may take, milliseconds.
    pub timeout_ms: u64,
    /// Failures in a row that make it unhealthy.
    pub failures: u32,
    /// Successes in a row that make it ready again.
    pub successes: u32,
    /// How long it may stay unhealthy, milliseconds.
    pub unhealthy_timeout_ms: u64,
    /// What follows then.
    pub then: OnUnhealthy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_and_is_never_longer_than_five_minutes() {
        let plan = RestartPlan::default();
        let pauses: Vec<u64> = (1..=8).map(|n| plan.pause_ms(n) / 1000).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!((plan.pause_ms(u32::MAX), plan.pause_ms(64), plan.pause_ms(0)), (MAX_BACKOFF_MS, MAX_BACKOFF_MS, 10_000));
        let long = RestartPlan { backoff_ms: u64::MAX, ..plan };
        assert_eq!(long.pause_ms(1), MAX_BACKOFF_MS);
    }
}
