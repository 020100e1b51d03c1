//! Trust, then verify: a task beside the worker's own looks at the sandbox; what follows from a drift is decided here.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rbee_hive_policy::OnDrift;
use rbee_hive_sandbox::StoppedBy;
use rbee_hive_sandbox::verify::Expected;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval_at};

use super::Worker;
use crate::VerifiedView;
use crate::state::State;
use crate::verifier::{Checked, Verifier};
use crate::view::now;

/// Requests for a look that may wait.
const MAX_REQUESTS: usize = 16;
/// Sentences in a log line and in a story; all of them are in the view.
const TOLD: usize = 3;

/// What a look came to, and whom to tell when it is shown.
pub(super) struct Report {
    checked: Checked,
    asked: Option<oneshot::Sender<()>>,
}

/// The looking task; it ends when this is dropped.
pub(super) struct Verification {
    reports: Option<mpsc::Receiver<Report>>,
    task: Option<JoinHandle<()>>,
}

impl Verification {
    /// The next report; never, where nothing is looked at.
    pub(super) async fn next(&mut self) -> Option<Report> {
        match &mut self.reports {
            Some(reports) => reports.recv().await,
            None => pending().await,
        }
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Worker {
    /// Begins to look at the sandbox: at once, then by the policy's interval, and on request.
    pub(super) fn verify(&self) -> Verification {
        let Some(pid) = self.state.process().and_then(|p| p.pid) else { return Verification { reports: None, task: None } };
        let view = self.view.borrow();
        let mut plan = self.plan.clone();
        plan.not_in_force.clone_from(&view.not_in_force);
        let cgroup = Arc::clone(&self.tools.launcher.cgroup);
        let verifier = Verifier {
            id: self.id.clone(),
            expected: Arc::new(Expected { plan, leaf: view.cgroup.path.clone(), cgroup, made: None }),
            pid,
            start_ticks: self.known.start_ticks.get().copied(),
            link: Arc::clone(&self.link),
            launcher: self.tools.launcher.clone(),
            in_force: Arc::clone(&self.known.in_force),
        };
        let (tell, reports) = mpsc::channel(1);
        let (ask, requests) = mpsc::channel(MAX_REQUESTS);
        let _ = self.known.verify.set(ask);
        let task = tokio::spawn(look_again_and_again(verifier, Duration::from_millis(self.plan.verify.interval_ms), requests, tell));
        Verification { reports: Some(reports), task: Some(task) }
    }

    /// Shows what was found; a drift that is new is told, and kills where the policy says so.
    pub(super) async fn verified(&mut self, Report { checked, asked }: Report) {
        // What is on its way to its end is no longer as planned, and shall not be.
        if !matches!(self.state, State::Starting { .. } | State::Ready { .. } | State::Frozen { .. } | State::Thawing { .. }) {
            return;
        }
        let Checked { findings, took } = checked;
        let drift: Vec<String> = findings.drift.into_iter().map(|d| d.sentence).collect();
        let usec = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let verified = Some(VerifiedView { at: now(), usec, unseen: findings.unseen });
        let changed = self.teller.change(&self.view, |view| {
            view.verified = verified;
            let changed = view.drift != drift;
            if changed {
                view.generation += 1;
                view.drift.clone_from(&drift);
            }
            changed
        });
        if changed {
            self.tell_drift(&drift);
        }
        if !drift.is_empty() && self.plan.verify.on_drift == OnDrift::Kill {
            self.ask_to_stop(StoppedBy::Drift, Some(Duration::ZERO)).await;
        }
        if let Some(asked) = asked {
            // Whoever asked may have gone.
            let _ = asked.send(());
        }
    }

    fn tell_drift(&self, drift: &[String]) {
        if drift.is_empty() {
            tracing::info!(worker = %self.id, "the sandbox is as planned again");
            return self.story.tell("drift", "{} is as planned again", &[&self.id]);
        }
        let more = drift.len().saturating_sub(TOLD);
        let mut text = drift[..drift.len().min(TOLD)].join("; ");
        if more > 0 {
            text.push_str(&format!("; and {more} more"));
        }
        tracing::warn!(worker = %self.id, drift = text, "the sandbox is no longer as planned");
        self.story.tell("drift", "{} is no longer as planned: {}", &[&self.id, &text]);
    }
}

async fn look_again_and_again(
    mut verifier: Verifier,
    interval: Duration,
    mut requests: mpsc::Receiver<oneshot::Sender<()>>,
    tell: mpsc::Sender<Report>,
) {
    // Without an interval the first look is the only one that nobody asks for.
    let mut ticks = (!interval.is_zero()).then(|| {
        let mut ticks = interval_at(tokio::time::Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let mut asked = None;
    loop {
        let checked = verifier.check().await;
        if tell.send(Report { checked, asked }).await.is_err() {
            return;
        }
        asked = tokio::select! {
            request = requests.recv() => match request {
                Some(request) => Some(request),
                None => return,
            },
            () = tick(&mut ticks) => None,
        };
    }
}

async fn tick(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => pending().await,
    }
}
