//! Asking a worker that is ready whether it still answers, until its life ends or it stands still.
//!
//! A task beside the worker's own: a probe that waits for its answer holds nothing up.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rbee_hive_policy::{LivenessPlan, LivenessProbe, OnUnhealthy};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::failures::{Change, Tally};
use super::notify::Pings;
use crate::reach::Dialer;
use crate::readiness::http;

/// What was found out; only what is news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It has failed as often in a row as it may; what the last probe saw.
    Unhealthy { last_probe: String },
    /// It answers again.
    Recovered,
    /// It has been unhealthy for as long as it may, and is to be ended.
    TooLong { last_probe: String },
}

/// Whom to ask, and how.
pub(crate) struct Asking {
    pub(crate) plan: LivenessPlan,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) pings: watch::Receiver<Pings>,
}

/// The asking task; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Liveness {
    findings: mpsc::Receiver<Finding>,
    task: JoinHandle<()>,
}

impl Liveness {
    pub(crate) fn start(Asking { plan, dialer, pings }: Asking) -> Self {
        let (tell, findings) = mpsc::channel(1);
        // Here and not in the task: what is said from now on counts.
        let probes = Probes::of(&plan, dialer, pings);
        Self { findings, task: tokio::spawn(ask((plan, probes), tell)) }
    }

    /// The next finding; never, where nobody is asked.
    pub(crate) async fn next(of: &mut Option<Self>) -> Finding {
        match of {
            Some(liveness) => match liveness.findings.recv().await {
                Some(finding) => finding,
                // It has said its last.
                None => pending().await,
            },
            None => pending().await,
        }
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a probe came to.
enum Outcome {
    Answered,
    Failed(String),
    /// It says itself that it has failed.
    Triggered,
}

/// One probe after another.
enum Probes {
    Periodic { ticks: Interval, plan: LivenessPlan, dialer: Arc<Dialer> },
    Watchdog(Watchdog),
}

async fn ask((plan, mut probes): (LivenessPlan, Probes), tell: mpsc::Sender<Finding>) {
    let mut tally = Tally::new(&plan);
    let mut end_at = None;
    let mut last_probe = String::new();
    let ends = |after: Duration| (plan.then != OnUnhealthy::Nothing).then(|| Instant::now() + after);
    loop {
        let outcome = tokio::select! {
            outcome = probes.next() => outcome,
            () = until(end_at) => return drop(tell.send(Finding::TooLong { last_probe }).await),
        };
        let change = match outcome {
            Outcome::Answered => tally.succeeded(),
            Outcome::Failed(text) => {
                last_probe = text;
                tally.failed()
            }
            Outcome::Triggered => {
                last_probe = "it said WATCHDOG=trigger".to_owned();
                end_at = ends(Duration::ZERO);
                tally.give_up()
            }
        };
        let told = match change {
            None => continue,
            Some(Change::Recovered) => {
                end_at = None;
                Finding::Recovered
            }
            Some(Change::Unhealthy) => {
                end_at = end_at.or_else(|| ends(Duration::from_millis(plan.unhealthy_timeout_ms)));
                Finding::Unhealthy { last_probe: last_probe.clone() }
            }
        };
        if tell.send(told).await.is_err() {
            return;
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

impl Probes {
    fn of(plan: &LivenessPlan, dialer: Arc<Dialer>, pings: watch::Receiver<Pings>) -> Self {
        let interval = Duration::from_millis(plan.interval_ms);
        if plan.probe == LivenessProbe::Watchdog {
            return Self::Watchdog(Watchdog::new(interval, pings));
        }
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Periodic { ticks, plan: plan.clone(), dialer }
    }

    async fn next(&mut self) -> Outcome {
        match self {
            Self::Watchdog(watchdog) => watchdog.next().await,
            Self::Periodic { ticks, plan, dialer } => {
                ticks.tick().await;
                let limit = Duration::from_millis(plan.timeout_ms);
                let probed = match &plan.probe {
                    LivenessProbe::Http { path } => timeout(limit, http::get(dialer, path)).await,
                    _ => timeout(limit, async { dialer.connect().await.map(drop).map_err(|e| e.to_string()) }).await,
                };
                match probed {
                    Ok(Ok(())) => Outcome::Answered,
                    Ok(Err(text)) => Outcome::Failed(text),
                    Err(_) => Outcome::Failed(format!("no answer within {} ms", plan.timeout_ms)),
                }
            }
        }
    }
}

/// Waits for the next sign of life, or for the time when it should have come.
struct Watchdog {
    interval: Duration,
    pings: watch::Receiver<Pings>,
    seen: Pings,
    /// When it gave a sign last.
    heard: Instant,
    /// Since when its silence has not been counted.
    since: Instant,
}

impl Watchdog {
    /// What was said before counts for nothing: the time begins now.
    fn new(interval: Duration, pings: watch::Receiver<Pings>) -> Self {
        let (seen, now) = (*pings.borrow(), Instant::now());
        Self { interval, pings, seen, heard: now, since: now }
    }

    async fn next(&mut self) -> Outcome {
        loop {
            let (now, before) = (*self.pings.borrow_and_update(), self.seen);
            self.seen = now;
            if now.triggers != before.triggers {
                return Outcome::Triggered;
            }
            if now.count != before.count {
                (self.heard, self.since) = (Instant::now(), Instant::now());
                return Outcome::Answered;
            }
            let due = self.since + now.within.unwrap_or(self.interval);
            let due = now.extended.map_or(due, |extended| extended.max(due));
            tokio::select! {
                changed = self.pings.changed() => if changed.is_err() {
                    // Nobody is left to pass a sign on: the worker's end is told elsewhere.
                    pending::<()>().await;
                },
                () = sleep_until(due) => {
                    self.since = Instant::now();
                    return Outcome::Failed(format!("no WATCHDOG=1 for {} ms", self.heard.elapsed().as_millis()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::Target;

    fn plan(then: OnUnhealthy) -> LivenessPlan {
        LivenessPlan {
            probe: LivenessProbe::Watchdog,
            interval_ms: 10_000,
            timeout_ms: 1,
            failures: 2,
            successes: 1,
            unhealthy_timeout_ms: 30_000,
            then,
        }
    }

    struct Watched {
        pings: watch::Sender<Pings>,
        liveness: Option<Liveness>,
        began: Instant,
    }

    fn watched(plan: LivenessPlan) -> Watched {
        let (link, _init, _events) = crate::init_link::InitLink::open().unwrap();
        let (pings, heard) = watch::channel(Pings { count: 7, ..Pings::default() });
        let liveness = Some(Liveness::start(Asking { plan, dialer: Arc::new(Dialer::to(link, Target::None)), pings: heard }));
        Watched { pings, liveness, began: Instant::now() }
    }

    impl Watched {
        /// The next finding, and seconds since the beginning.
        async fn next(&mut self) -> (Finding, u64) {
            let finding = Liveness::next(&mut self.liveness).await;
            (finding, self.began.elapsed().as_secs())
        }

        async fn ping_at(&self, secs: u64) {
            sleep_until(self.began + Duration::from_secs(secs)).await;
            self.pings.send_modify(|pings| pings.count += 1);
            tokio::task::yield_now().await;
        }
    }

    fn unhealthy(ms: u64) -> Finding {
        Finding::Unhealthy { last_probe: format!("no WATCHDOG=1 for {ms} ms") }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_by_the_interval_and_after_its_time_it_is_too_long() {
        let mut watched = watched(plan(OnUnhealthy::Stop));
        for at in [9, 18] {
            watched.ping_at(at).await;
        }
        assert_eq!(watched.next().await, (unhealthy(20_000), 38));
        let (finding, secs) = watched.next().await;
        assert!(matches!(finding, Finding::TooLong { .. }) && secs == 68, "{finding:?} after {secs} s");
    }

    #[tokio::test(start_paused = true)]
    async fn who_speaks_again_in_time_is_not_ended() {
        let mut watched = watched(plan(OnUnhealthy::Stop));
        assert_eq!(watched.next().await, (unhealthy(20_000), 20));
        watched.ping_at(49).await;
        assert_eq!(watched.next().await, (Finding::Recovered, 49));
        assert_eq!(watched.next().await, (unhealthy(20_000), 69));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trigger_waits_for_nothing_and_an_extension_is_waited_for() {
        let mut triggered = watched(plan(OnUnhealthy::Restart));
        triggered.pings.send_modify(|pings| pings.triggers += 1);
        let said = "it said WATCHDOG=trigger".to_owned();
        assert_eq!(triggered.next().await, (Finding::Unhealthy { last_probe: said.clone() }, 0));
        assert_eq!(triggered.next().await, (Finding::TooLong { last_probe: said }, 0));
        let mut extended = watched(plan(OnUnhealthy::Restart));
        extended.pings.send_modify(|pings| pings.extended = Some(extended.began + Duration::from_secs(100)));
        assert_eq!(extended.next().await, (unhealthy(110_000), 110));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_sets_its_own_time_and_where_nothing_follows_nothing_does() {
        let mut watched = watched(plan(OnUnhealthy::Nothing));
        watched.pings.send_modify(|pings| pings.within = Some(Duration::from_secs(2)));
        assert_eq!(watched.next().await, (unhealthy(4_000), 4));
        let quiet = timeout(Duration::from_secs(600), Liveness::next(&mut watched.liveness)).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }
}
