//! One life after another: what follows from an end, the pause, the next start.
//!
//! The worker keeps its name, view, port and lease; it loses its processes, its connections and its cgroup. What has to be started is the
//! spawner's to know.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rbee_hive_policy::{LimitKey, LimitValue, NotInForce, SandboxPlan};
use rbee_hive_sandbox::protocol::Resources;
use rbee_hive_sandbox::{SetupFailure, StoppedBy, Verdict};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use super::end::{End, Ending, Whereabouts};
use super::{Command, ThisLife, Worker, said};
use crate::channel::lock;
use crate::explanation::LifeView;
use crate::init_link::{Event as InitEvent, InitLink};
use crate::launcher::Released;
use crate::reach::{Dialer, Target};
use crate::registry::PortLease;
use crate::state::{Event, State};
use crate::supervision::{Backoff, Ended, Next, is_final};
use crate::view::{now, rfc3339};
use crate::{ErrorKind, EventKind, LifecycleError};

/// Lives of a worker whose end is kept.
const MAX_LIVES: usize = 32;
/// How often a hive that leaves its workers looks whether it still does.
const LEAVING: Duration = Duration::from_millis(500);

/// How a worker is started once more.
pub(crate) trait Starter: Send + Sync {
    /// Its processes are gone: what they were part of goes on without it. Its lease stays.
    fn rest(&self) -> BoxFuture<'_, ()>;

    /// Has an init made for its next life, with these limits of its own; it keeps this port.
    fn start<'a>(
        &'a self,
        limits: BTreeMap<LimitKey, LimitValue>,
        port: Option<BorrowedFd<'a>>,
    ) -> BoxFuture<'a, Result<NextLife, LifecycleError>>;
}

/// A life that begins: the init is running.
pub(crate) struct NextLife {
    pub(crate) plan: SandboxPlan,
    pub(crate) link: Arc<InitLink>,
    pub(crate) cgroup: Option<String>,
    pub(crate) init_pid: i32,
    pub(crate) notes: Vec<NotInForce>,
    pub(crate) ends: Ends,
}

/// Where the end of a life is heard of.
pub(crate) struct Ends {
    pub(crate) events: mpsc::Receiver<InitEvent>,
    /// The init's pidfd.
    pub(crate) init: OwnedFd,
    pub(crate) released: oneshot::Receiver<Released>,
}

/// A worker between two lives, as the hive before has left it.
#[derive(Debug)]
pub(crate) struct Down {
    /// How the last life ended.
    pub(crate) verdict: Verdict,
    /// Its last figures.
    pub(crate) resources: Resources,
    /// Which new start in a row is due, and in how long.
    pub(crate) next: (u32, Duration),
}

/// What comes after a life.
pub(super) enum After {
    Again(Ends),
    Over(Box<End>),
}

/// Lives that are over, of many the last ones.
#[derive(Debug, Default)]
pub(crate) struct Lives(Mutex<VecDeque<LifeView>>);

impl Lives {
    /// The oldest first.
    pub(crate) fn all(&self) -> Vec<LifeView> {
        lock(&self.0).iter().cloned().collect()
    }

    /// Those of before, the oldest first.
    pub(crate) fn restore(&self, before: &[LifeView]) {
        before.iter().for_each(|life| self.add(life.clone()));
    }

    fn add(&self, life: LifeView) {
        let mut lives = lock(&self.0);
        if lives.len() >= MAX_LIVES {
            lives.pop_front();
        }
        lives.push_back(life);
    }
}

impl Worker {
    /// A life has ended. Comes back when the next one has begun, or there will be none.
    pub(super) async fn after(&mut self, ending: Ending, released: Option<Released>, commands: &mut mpsc::Receiver<Command>) -> After {
        let whereabouts = ending.where_it_is;
        let end = self.end_of(ending, released).await;
        if whereabouts == Whereabouts::Elsewhere {
            return After::Over(Box::new(end));
        }
        self.note_life(&end);
        let asked = match self.state {
            State::Stopping { by, .. } => Some(by),
            _ => None,
        };
        let has_run = self.life.executed_at.is_some() || self.view.borrow().restarts > 0;
        let was_ready = self.life.ready_since.map(|since| since.elapsed());
        let ended = Ended { verdict: &end.verdict, asked, has_run, was_ready };
        match self.restarts.after(ended, self.plan.restart, self.plan.liveness.as_ref()) {
            Next::Over => After::Over(Box::new(end)),
            Next::GivenUp { restarts } => After::Over(Box::new(end.given_up(&given_up(restarts)))),
            Next::Again { number, pause } => match self.not_again(&end) {
                Some(why) => After::Over(Box::new(end.remark(why))),
                None => self.again(end, (number, pause), commands).await,
            },
        }
    }

    /// What stands in the way of another life.
    fn not_again(&self, end: &End) -> Option<&'static str> {
        if self.starter.is_none() {
            return Some("it is not started again: nobody knows any more how");
        }
        if self.tools.launcher.is_gone() {
            return Some("it is not started again: the launcher is gone");
        }
        (!end.left.is_empty()).then_some("it is not started again: something of it is still there")
    }

    async fn again(&mut self, end: End, next: (u32, Duration), commands: &mut mpsc::Receiver<Command>) -> After {
        self.note_backoff(next);
        self.come_to_rest(&end).await;
        if let Some(starter) = &self.starter {
            starter.rest().await;
        }
        self.try_again(end, next, commands).await
    }

    /// The same for one that fell while the hive before was there, or nobody: that is shown already.
    pub(super) async fn go_on_after(&mut self, down: Down, commands: &mut mpsc::Receiver<Command>) -> After {
        let Down { verdict, resources, next } = down;
        self.state = self.state.clone().after(Event::Fell);
        self.try_again(End { resources, ..End::of(verdict) }, next, commands).await
    }

    /// Waits and tries until the next life has begun, or there is to be none.
    async fn try_again(&mut self, mut end: End, mut next: (u32, Duration), commands: &mut mpsc::Receiver<Command>) -> After {
        let Some(starter) = self.starter.clone() else { return After::Over(Box::new(end)) };
        loop {
            self.tell_pause(next);
            if let Some(by) = self.pause(next.1, commands).await {
                // The verdict before this one was told when it fell.
                self.step(Event::StopAsked { by }, |view| view.verdict = None);
                let resources = self.view.borrow().resources;
                let stopped = Verdict::Stopped { by, forced: false, code: None, signal: None };
                return After::Over(Box::new(End { resources, ..End::of(stopped) }));
            }
            let port = self.port.as_ref().and_then(PortLease::listener).map(AsFd::as_fd);
            let refused = match starter.start(self.own_limits(), port).await {
                Ok(life) => return After::Again(self.begin_anew(life)),
                Err(refused) => refused,
            };
            if refused.kind == ErrorKind::Draining && self.is_left() {
                next.1 = Duration::ZERO;
                continue;
            }
            let why = format!("it is not started again: {}", refused.message);
            if refused.kind == ErrorKind::Draining || refused.kind == ErrorKind::LauncherGone {
                return After::Over(Box::new(end.remark(&why)));
            }
            if is_for_good(refused.kind) {
                return After::Over(Box::new(end.given_up(&why)));
            }
            end = End::of(try_failed(&refused));
            self.note_life(&end);
            let ended = Ended { verdict: &end.verdict, asked: None, has_run: true, was_ready: None };
            next = match self.restarts.after(ended, self.plan.restart, self.plan.liveness.as_ref()) {
                Next::Again { number, pause } => (number, pause),
                Next::GivenUp { restarts } => return After::Over(Box::new(end.given_up(&given_up(restarts)))),
                Next::Over => return After::Over(Box::new(end)),
            };
            self.note_backoff(next);
            self.show_fall(&end);
        }
    }

    /// Its connections end; new ones wait in the backlog of its port, which stays open.
    async fn come_to_rest(&mut self, end: &End) {
        if let Some(forwarder) = self.forwarder.take() {
            forwarder.stop().await;
        }
        // Who waits for it to stand still hears that it does not come to that.
        self.doing = None;
        self.life = ThisLife::default();
        self.show_fall(end);
    }

    /// The end of a life, or of a try, is told like any other.
    fn show_fall(&mut self, end: &End) {
        let verdict = said(end.verdict.clone());
        let told_before = self.view.borrow().verdict.as_ref() == Some(&verdict);
        let (data, resources, unmeasured) = (serde_json::to_value(&verdict).unwrap_or_default(), end.resources, self.unmeasured(end));
        self.step(Event::Fell, |view| {
            view.verdict = Some(verdict);
            view.init_pid = None;
            view.cgroup.path = None;
            view.resources = resources;
            view.unmeasured = unmeasured;
            view.drift.clear();
            view.verified = None;
        });
        if told_before {
            let generation = self.view.borrow().generation;
            self.teller.tell(EventKind::Verdict, generation, data);
        }
    }

    /// For the hive after this one, before the fall is shown: with that it is written down.
    fn note_backoff(&self, (number, pause): (u32, Duration)) {
        let due_at = jiff::Timestamp::now().checked_add(pause).ok().map(rfc3339);
        *lock(&self.known.backoff) = Backoff { in_a_row: number, due_at };
    }

    /// Whether its next life is the next hive's to begin.
    fn is_left(&self) -> bool {
        self.tools.leaving.load(Ordering::SeqCst)
    }

    /// For whoever asks later how it came to that.
    fn note_life(&self, end: &End) {
        let (started_at, ready_at) = (self.life.executed_at.clone(), self.life.ready_at.clone());
        self.known.lives.add(LifeView { started_at, ready_at, ended_at: now(), verdict: said(end.verdict.clone()) });
    }

    fn tell_pause(&self, (number, pause): (u32, Duration)) {
        let most = self.plan.restart.max_restarts;
        let how = self.view.borrow().verdict.as_ref().map_or_else(String::new, |v| v.message.clone());
        tracing::warn!(worker = %self.id, pause_ms = pause.as_millis() as u64, number, most, "a worker is started again: {how}");
        let pause = format!("{:.1} s", pause.as_secs_f64());
        self.story.tell("restart", "{}: {}; it is started again in {} ({} of {})", &[&self.id, &how, &pause, &number, &most]);
    }

    /// Waits, and hears what comes meanwhile; who wants it gone, if somebody does.
    async fn pause(&mut self, pause: Duration, commands: &mut mpsc::Receiver<Command>) -> Option<StoppedBy> {
        // What an update has put in force is the new plan's from now on: nobody shall compare it with what that one replaces.
        let (in_force, tools) = (Arc::clone(&self.known.in_force), Arc::clone(&self.tools));
        let over = async {
            sleep(pause).await;
            // It is the next hive's to start; this one is about to be gone.
            while tools.leaving.load(Ordering::SeqCst) {
                sleep(LEAVING).await;
            }
            *in_force.write().await = None;
        };
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                Some(command) = commands.recv() => if let Some(by) = self.obey_while_down(command) {
                    return Some(by);
                },
                () = &mut over => return None,
            }
        }
    }

    fn obey_while_down(&mut self, command: Command) -> Option<StoppedBy> {
        match command {
            Command::Stop { by, .. } => return is_final(by).then_some(by),
            // An update that the launcher has carried out just before the end.
            Command::ShowLimits { now, changed, shown } => self.show_limits(now, &changed, shown),
            Command::Tell { text } => self.story.tell("device", "{}: {}", &[&self.id, &text]),
            Command::Freeze { tell } => drop(tell.send(Err(self.not_now("frozen")))),
            Command::Thaw { tell } => drop(tell.send(Err(self.not_now("thawed")))),
            // About processes that are gone.
            Command::Signal { .. } | Command::NotInForce { .. } => {}
        }
        None
    }

    /// Limits that were changed while it ran.
    fn own_limits(&self) -> BTreeMap<LimitKey, LimitValue> {
        let updated = lock(&self.known.updated);
        updated.iter().filter_map(|key| Some((*key, self.plan.limits.get(key)?.value.clone()))).collect()
    }

    fn begin_anew(&mut self, life: NextLife) -> Ends {
        let NextLife { plan, link, cgroup, init_pid, notes, ends } = life;
        self.dialer = Arc::new(Dialer::to(Arc::clone(&link), Target::of(&plan)));
        (self.plan, self.link) = (plan, link);
        (self.notified, self.pings) = (watch::Sender::default(), watch::Sender::default());
        (self.last_probe, self.silent_at) = (None, None);
        self.started_before = Duration::ZERO;
        lock(&self.known.backoff).due_at = None;
        self.known.sampled.begin_anew();
        let limits = self.plan.limits.iter().map(|(key, limit)| (*key, limit.value.clone())).collect();
        self.step(Event::Reborn, |view| {
            view.restarts = view.restarts.saturating_add(1);
            view.init_pid = Some(init_pid);
            view.cgroup.path = cgroup;
            view.limits = limits;
            view.not_in_force = notes;
            (view.started_at, view.ready_at, view.verdict, view.status_text) = (None, None, None, None);
            view.resources = Resources::default();
        });
        ends
    }
}

fn given_up(restarts: u32) -> String {
    format!("it was given up after {restarts} restarts in a row")
}

/// A refusal that time does not change.
fn is_for_good(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PolicyViolation
            | ErrorKind::UnknownPolicy
            | ErrorKind::InvalidPolicy
            | ErrorKind::NotEnforceable
            | ErrorKind::InvalidParams
            | ErrorKind::NoSuchDevice
            | ErrorKind::NotFound
    )
}

fn try_failed(refused: &LifecycleError) -> Verdict {
    Verdict::SetupFailed(SetupFailure {
        step: refused.step.clone().unwrap_or_else(|| "start again".to_owned()),
        errno: refused.errno,
        message: refused.message.clone(),
        hint: refused.hint.clone(),
    })
}
