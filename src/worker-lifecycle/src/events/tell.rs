//! What is told when a worker's view changes: from what was seen before and what is seen now to events.

use std::sync::Arc;

use rbee_hive_policy::WorkerId;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{About, EventHub, EventKind};
use crate::WorkerView;

/// Tells what happens to one worker.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    hub: Arc<EventHub>,
    id: WorkerId,
    job_id: Option<String>,
}

impl Teller {
    pub(crate) fn new(hub: Arc<EventHub>, id: WorkerId, job_id: Option<String>) -> Self {
        Self { hub, id, job_id }
    }

    /// Changes a view, and tells what is new of it before anybody can see it; whether it was changed, as `change` says.
    pub(crate) fn change(&self, view: &watch::Sender<WorkerView>, change: impl FnOnce(&mut WorkerView) -> bool) -> bool {
        view.send_if_modified(|view| {
            let before = Shown::of(view);
            let changed = change(view);
            self.tell_all(Some(&before), view);
            changed
        })
    }

    /// The same for the first thing that is told of a worker: until it is admitted by the launcher as well, nobody hears of it.
    pub(crate) fn begin(&self, view: &watch::Sender<WorkerView>, change: impl FnOnce(&mut WorkerView)) {
        view.send_modify(|view| {
            change(view);
            self.tell_all(None, view);
        });
    }

    /// Tells what is not to be seen in the view.
    pub(crate) fn tell(&self, kind: EventKind, generation: u64, data: Value) {
        self.hub.tell(kind, About::worker(&self.id, generation).of_job(self.job_id.as_deref()), data);
    }

    fn tell_all(&self, before: Option<&Shown>, view: &WorkerView) {
        for (kind, data) in changes(before, &Shown::of(view)) {
            self.tell(kind, view.generation, data);
        }
    }
}

/// What of a view is told.
#[derive(Clone, Debug, PartialEq)]
struct Shown {
    state: Value,
    verdict: Value,
    drift: Vec<String>,
}

impl Shown {
    fn of(view: &WorkerView) -> Self {
        let verdict = serde_json::to_value(&view.verdict).unwrap_or_default();
        Self { state: json!({"state": view.state, "pid": view.pid}), verdict, drift: view.drift.clone() }
    }
}

/// What has changed, in the order in which it is told: the state comes last, so that who waits for it has read the rest.
fn changes(before: Option<&Shown>, now: &Shown) -> Vec<(EventKind, Value)> {
    let differs = |same: fn(&Shown, &Shown) -> bool| before.is_none_or(|before| !same(before, now));
    let mut told = vec![];
    if !now.verdict.is_null() && differs(|a, b| a.verdict == b.verdict) {
        told.push((EventKind::Verdict, now.verdict.clone()));
    }
    // One that has not been looked at yet has no drift, and nothing to tell.
    if differs(|a, b| a.drift == b.drift) && (before.is_some() || !now.drift.is_empty()) {
        told.push((EventKind::Drift, json!({"drift": now.drift})));
    }
    if differs(|a, b| a.state == b.state) {
        told.push((EventKind::State, now.state.clone()));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(state: &str, verdict: Value, drift: &[&str]) -> Shown {
        Shown { state: json!({"state": state}), verdict, drift: drift.iter().map(ToString::to_string).collect() }
    }

    fn kinds(before: Option<&Shown>, now: &Shown) -> Vec<EventKind> {
        changes(before, now).into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn only_what_is_new_is_told_and_the_state_comes_last() {
        use EventKind::{Drift, State, Verdict};
        let ready = shown("ready", Value::Null, &[]);
        assert_eq!(kinds(None, &ready), [State]);
        assert_eq!(kinds(Some(&ready), &ready), []);
        assert_eq!(kinds(Some(&ready), &shown("ready", Value::Null, &["x"])), [Drift]);
        assert_eq!(kinds(Some(&shown("ready", Value::Null, &["x"])), &ready), [Drift], "as planned again");
        let over = shown("failed", json!({"kind": "exited"}), &["left"]);
        assert_eq!(kinds(Some(&ready), &over), [Verdict, Drift, State]);
        assert_eq!(kinds(None, &over), [Verdict, Drift, State]);
    }
}
