//! Standing still and going on: by request, because it was idle, and for the next connection.
//!
//! The init does it and takes its time; meanwhile the worker's task hears everything else.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use rbee_hive_policy::IdleAction;
use rbee_hive_sandbox::StoppedBy;
use serde_json::json;
use tokio::task::JoinHandle;

use super::Worker;
use super::handle::Told;
use crate::reach::Gate;
use crate::state::{Event, FrozenBy, State};
use crate::{ErrorKind, EventKind, LifecycleError};

/// What the init is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Freeze(FrozenBy),
    Thaw,
}

/// An act under way, and who hears of its end.
pub(super) struct Doing {
    act: Act,
    work: JoinHandle<io::Result<()>>,
    tell: Vec<Told>,
}

/// An act that has come to its end.
pub(super) struct Done {
    act: Act,
    came_to: io::Result<()>,
    tell: Vec<Told>,
}

/// Waits for the end of what is under way; for ever, where nothing is.
pub(super) async fn done(doing: &mut Option<Doing>) -> Done {
    let Some(under_way) = doing else { return pending().await };
    let came_to = (&mut under_way.work).await.unwrap_or_else(|e| Err(io::Error::other(e)));
    let (act, tell) = (under_way.act, std::mem::take(&mut under_way.tell));
    *doing = None;
    Done { act, came_to, tell }
}

impl Worker {
    /// A client wants it to stand still.
    pub(super) fn freeze_by_request(&mut self, tell: Told) {
        match (&self.state, &mut self.doing) {
            // It is about to sleep anyhow; from then on it is the client's.
            (State::Ready { .. }, Some(Doing { act: act @ Act::Freeze(_), tell: waiting, .. })) => {
                *act = Act::Freeze(FrozenBy::Request);
                waiting.push(tell);
            }
            (State::Frozen { .. }, None) => {
                self.step(Event::Froze { by: FrozenBy::Request }, |_| {});
                let _ = tell.send(Ok(()));
            }
            (State::Ready { .. }, None) => self.begin(Act::Freeze(FrozenBy::Request), vec![tell]),
            _ => drop(tell.send(Err(self.not_now("frozen")))),
        }
    }

    /// A client wants it back.
    pub(super) fn thaw_by_request(&mut self, tell: Told) {
        match (&self.state, &mut self.doing) {
            (State::Frozen { .. }, None) => self.begin(Act::Thaw, vec![tell]),
            (State::Frozen { .. }, Some(Doing { act: Act::Thaw, tell: waiting, .. })) => waiting.push(tell),
            // It is on its way already, or there.
            (State::Thawing { .. } | State::Ready { .. }, None) => drop(tell.send(Ok(()))),
            _ => drop(tell.send(Err(self.not_now("thawed")))),
        }
    }

    /// It is idle, and its policy says `freeze`.
    pub(super) fn freeze_idle(&mut self) {
        if matches!(self.state, State::Ready { .. }) && self.doing.is_none() {
            self.begin(Act::Freeze(FrozenBy::Idle), vec![]);
        }
    }

    /// Somebody wants to be served.
    pub(super) fn wake(&mut self) {
        if matches!(self.state, State::Frozen { by: FrozenBy::Idle, .. }) && self.doing.is_none() {
            self.tell_idle(json!({"action": "wake"}));
            self.begin(Act::Thaw, vec![]);
        }
    }

    fn begin(&mut self, act: Act, tell: Vec<Told>) {
        let link = Arc::clone(&self.link);
        let work = async move {
            match act {
                Act::Thaw => link.thaw().await,
                Act::Freeze(_) => match link.freeze().await {
                    // Whether it stands still is not known: nobody would wake it.
                    Err(error) if error.raw_os_error().is_none() => link.thaw().await.and(Err(error)),
                    other => other,
                },
            }
        };
        self.doing = Some(Doing { act, work: tokio::spawn(work), tell });
    }

    /// Shows what it has come to.
    pub(super) fn done(&mut self, Done { act, came_to, tell }: Done) {
        let outcome = match (act, came_to) {
            (_, Err(error)) => Err(self.not_done(act, &error)),
            (Act::Thaw, Ok(())) => {
                self.step(Event::Thawed, |_| {});
                Ok(())
            }
            (Act::Freeze(by), Ok(())) => self.froze(by),
        };
        if let (true, Err(error)) = (tell.is_empty(), &outcome) {
            tracing::warn!(worker = %self.id, %error, "an idle worker stays as it is");
        }
        tell.into_iter().for_each(|tell| drop(tell.send(outcome.clone())));
    }

    fn froze(&mut self, by: FrozenBy) -> Result<(), LifecycleError> {
        // A stop may have come meanwhile: the init lets it run for that, whatever was first.
        if !matches!(self.state, State::Ready { .. }) {
            return Err(self.not_now("frozen"));
        }
        if by == FrozenBy::Idle {
            self.tell_idle(json!({"action": "freeze", "idle_ms": self.idle_ms()}));
        }
        self.step(Event::Froze { by }, |_| {});
        // One that came before the gate was turned knows nothing of it.
        if by == FrozenBy::Idle && self.usage.open() > 0 {
            self.wake();
        }
        Ok(())
    }

    /// Turns the gate to what the state wants.
    pub(super) fn turn_gate(&self) {
        self.gate.turn(match self.state {
            State::Frozen { by: FrozenBy::Request, .. } => Gate::Shut,
            State::Frozen { by: FrozenBy::Idle, .. } | State::Thawing { .. } => Gate::Asleep,
            _ => Gate::Open,
        });
    }

    /// What the policy says of an idle worker; once, until it was used again.
    pub(super) async fn act_on_idle(&mut self) {
        match self.plan.idle.action {
            IdleAction::None => {}
            IdleAction::Freeze => self.freeze_idle(),
            IdleAction::Reclaim => self.reclaim(),
            IdleAction::Stop => {
                self.tell_idle(json!({"action": "stop", "idle_ms": self.idle_ms()}));
                self.ask_to_stop(StoppedBy::Idle, None).await;
            }
        }
    }

    /// Beside the task: it may take seconds, and changes nothing of the worker's state.
    fn reclaim(&self) {
        let (link, teller, id) = (Arc::clone(&self.link), self.teller.clone(), self.id.clone());
        let (generation, idle_ms) = (self.view.borrow().generation, self.idle_ms());
        tokio::spawn(async move {
            match link.reclaim().await {
                Ok(bytes) => {
                    teller.tell(EventKind::Idle, generation, json!({"action": "reclaim", "idle_ms": idle_ms, "reclaimed_bytes": bytes}))
                }
                Err(error) => tracing::warn!(worker = %id, %error, "no memory was taken back from an idle worker"),
            }
        });
    }

    pub(super) fn tell_idle(&self, data: serde_json::Value) {
        let generation = self.view.borrow().generation;
        self.teller.tell(EventKind::Idle, generation, data);
    }

    fn idle_ms(&self) -> Option<u64> {
        self.usage.idle_for().map(|time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    fn not_now(&self, wanted: &str) -> LifecycleError {
        let text = format!("worker {} is {} and can't be {wanted} now", self.id, word(&self.state));
        LifecycleError::new(ErrorKind::NotAllowedNow, text)
    }

    fn not_done(&self, act: Act, error: &io::Error) -> LifecycleError {
        let (id, wanted) = (&self.id, if act == Act::Thaw { "thawed" } else { "frozen" });
        let (kind, text, hint) = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOTSUP) => {
                let hint = "a freezer is part of cgroup v2 since Linux 5.2, and a controller of v1";
                (ErrorKind::NotEnforceable, format!("worker {id} can't be {wanted}: this host has no freezer for it"), Some(hint))
            }
            Some(Errno::EBUSY) => {
                let hint = "it runs again; a process in state D freezes only when its call returns: look at /proc/<pid>/stack";
                (ErrorKind::Timeout, format!("worker {id} did not freeze: one of its processes waits in the kernel"), Some(hint))
            }
            Some(Errno::EALREADY | Errno::ECANCELED) => return self.not_now(wanted),
            _ => (ErrorKind::Timeout, format!("worker {id} was not {wanted}: {error}"), None),
        };
        LifecycleError { errno: error.raw_os_error(), hint: hint.map(Into::into), ..LifecycleError::new(kind, text) }
    }
}

fn word(state: &State) -> &'static str {
    match state {
        State::Requested | State::Starting { .. } => "starting",
        State::Ready { .. } => "about to be frozen",
        State::Frozen { .. } => "about to be thawed",
        State::Thawing { .. } => "waking up",
        State::Stopping { .. } => "stopping",
        State::Ended { .. } => "over",
    }
}
