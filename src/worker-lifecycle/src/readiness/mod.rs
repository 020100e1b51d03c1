//! When a worker answers. Probes go the same way as its clients, so that only *this* worker can make itself ready.

mod http;
mod progress;

use std::sync::Mutex;
use std::time::Duration;

use rbee_hive_policy::Readiness;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

pub(crate) use progress::Progress;

use crate::channel::lock;
use crate::reach::Dialer;

/// Pause after the first failed probe; doubled after each, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// One probe.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks for signs of progress.
const SAMPLE: Duration = Duration::from_secs(1);

/// How long a start may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartLimits {
    /// In all.
    pub(crate) total: Duration,
    /// Without any sign of progress.
    pub(crate) stall: Duration,
}

/// The worker was not ready in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotReady {
    pub(crate) last_probe: Option<String>,
}

/// Signs that a worker which does not answer yet is getting somewhere.
pub(crate) trait Signs: Send {
    /// Whether anything moved since the last look.
    fn moved(&mut self) -> bool;
}

/// Probes until the worker answers, or one of the limits is reached. `notified` turns true with sd_notify's READY=1.
pub(crate) async fn wait_until_ready(
    how: &Readiness,
    dialer: &Dialer,
    limits: StartLimits,
    (signs, notified): (impl Signs, watch::Receiver<bool>),
) -> Result<(), NotReady> {
    let seen = Mutex::new(None);
    let answered = tokio::select! {
        // An answer at the very last moment is an answer.
        biased;
        () = answers(how, dialer, notified, &seen) => true,
        () = sleep(limits.total) => false,
        () = stalls(limits.stall, signs) => false,
    };
    if answered {
        return Ok(());
    }
    let last_probe = lock(&seen).take().or_else(|| Some("the first probe was still waiting for an answer".into()));
    Err(NotReady { last_probe })
}

/// Ends when the worker answers; `seen` is what the last probe saw instead.
async fn answers(how: &Readiness, dialer: &Dialer, mut notified: watch::Receiver<bool>, seen: &Mutex<Option<String>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let probed = match how {
            Readiness::None => return,
            Readiness::Notify => {
                *lock(seen) = Some("it has not said READY=1".into());
                let said = notified.wait_for(|ready| *ready).await.is_ok();
                // Where nobody is left to pass a notification on, the worker's end is told elsewhere.
                if !said {
                    std::future::pending::<()>().await;
                }
                return;
            }
            Readiness::Tcp => within(async { dialer.connect().await.map(drop).map_err(|e| e.to_string()) }).await,
            Readiness::Http { path } => within(http::get(dialer, path)).await,
        };
        let Err(text) = probed else { return };
        *lock(seen) = Some(text);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Ends when nothing has moved for as long as `limit`.
async fn stalls(limit: Duration, mut signs: impl Signs) {
    let mut looks = interval(SAMPLE.min(limit / 2).max(Duration::from_millis(1)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut moved_at = Instant::now();
    while moved_at.elapsed() < limit {
        looks.tick().await;
        if signs.moved() {
            moved_at = Instant::now();
        }
    }
}

async fn within(act: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    timeout(PROBE_LIMIT, act).await.unwrap_or_else(|_| Err(format!("no answer within {} s", PROBE_LIMIT.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Target;

    struct Moves(u32);

    impl Signs for Moves {
        fn moved(&mut self) -> bool {
            self.0 = self.0.saturating_sub(1);
            self.0 > 0
        }
    }

    /// What a start came to, and how long it took, for a worker that never says READY=1.
    async fn silent(limits: (u64, u64), moves: u32) -> (Result<(), NotReady>, u64) {
        let (link, _init, _events) = crate::init_link::InitLink::open().unwrap();
        let dialer = Dialer::to(link, Target::None);
        let limits = StartLimits { total: Duration::from_secs(limits.0), stall: Duration::from_secs(limits.1) };
        let (_notify, notified) = watch::channel(false);
        let started = Instant::now();
        let outcome = wait_until_ready(&Readiness::Notify, &dialer, limits, (Moves(moves), notified)).await;
        (outcome, started.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_nothing_is_given_up_before_the_whole_time_is_over() {
        let (outcome, seconds) = silent((600, 60), 0).await;
        assert_eq!(outcome.unwrap_err().last_probe.as_deref(), Some("it has not said READY=1"));
        assert!((59..=62).contains(&seconds), "{seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn progress_puts_the_stall_off_but_never_the_whole_time() {
        let (outcome, seconds) = silent((600, 60), 100).await;
        assert!(outcome.is_err() && (155..=165).contains(&seconds), "{seconds} s");
        let (outcome, seconds) = silent((600, 60), u32::MAX).await;
        assert!(outcome.is_err() && (600..=601).contains(&seconds), "{seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn without_readiness_a_worker_is_ready_at_once() {
        let (link, _init, _events) = crate::init_link::InitLink::open().unwrap();
        let limits = StartLimits { total: Duration::ZERO, stall: Duration::ZERO };
        let ready = wait_until_ready(&Readiness::None, &Dialer::to(link, Target::None), limits, (Moves(0), watch::channel(false).1)).await;
        assert_eq!(ready, Ok(()));
    }
}
