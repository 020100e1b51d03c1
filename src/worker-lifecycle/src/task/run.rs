//! The loop of one worker.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rbee_hive_policy::Readiness;
use rbee_hive_sandbox::protocol::{FromInit, ToInit, ToLauncher};
use rbee_hive_sandbox::{StoppedBy, Verdict};
use tokio::sync::{mpsc, watch};

use super::end::Ending;
use super::{Born, Command, Worker, freeze, idle, said, until};
use crate::events::Teller;
use crate::init_link::Event as InitEvent;
use crate::reach::{Dialer, Forwarder, Gatekeeper, Route, Target};
use crate::readiness::{NotReady, Progress, StartLimits, wait_until_ready};
use crate::state::{Event, Process, State};
use crate::view::now;

/// Runs until the worker is over and everything is taken back.
pub(crate) async fn run(born: Born) {
    let Born { plan, link, mut events, init, released, port, mut commands, view, story, tools, handle } = born;
    let mut worker = Worker {
        dialer: Arc::new(Dialer::to(Arc::clone(&link), Target::of(&plan))),
        teller: Teller::new(Arc::clone(&tools.events), handle.id.clone(), story.job().map(str::to_owned)),
        id: handle.id,
        plan,
        link,
        forwarder: None,
        port,
        state: State::Requested,
        view,
        story,
        tools,
        usage: handle.usage,
        gate: Gatekeeper::new(),
        doing: None,
        known: handle.known,
        notified: watch::Sender::new(false),
        last_probe: None,
        silent_at: None,
    };
    let ending = worker.live(&mut events, &mut commands).await;
    let released = worker.wait_for_release(released, init).await;
    worker.take_back(ending, released).await;
}

impl Worker {
    /// From the init's first word to its last.
    async fn live(&mut self, events: &mut mpsc::Receiver<InitEvent>, commands: &mut mpsc::Receiver<Command>) -> Ending {
        if let Some(ending) = self.until_executed(events, commands).await {
            return ending;
        }
        let mut verification = self.verify();
        let mut probing = Some(self.probing());
        let mut looks = self.idle_looks();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => if let Some(ending) = self.hear(event).await {
                        return ending;
                    },
                    None => return Ending::default(),
                },
                Some(command) = commands.recv() => self.obey(command).await,
                Some(checked) = verification.next() => self.verified(checked).await,
                () = until(self.silent_at) => self.give_init_up().await,
                answered = answer(&mut probing), if matches!(self.state, State::Starting { .. } | State::Thawing { .. }) => {
                    probing = None;
                    self.probed(answered).await;
                }
                done = freeze::done(&mut self.doing) => {
                    self.done(done);
                    if matches!(self.state, State::Thawing { .. }) {
                        probing = Some(self.probing());
                    }
                }
                () = self.gate.knocked() => self.wake(),
                () = idle::due(&mut looks) => self.look_whether_idle(&mut looks).await,
            }
        }
    }

    /// Asks it until it answers, by the same rules after a thaw as at its start: what was swapped out has to come back first.
    fn probing(&self) -> Probing {
        let (plan, progress) = (self.plan.clone(), self.progress());
        let (dialer, notified) = (Arc::clone(&self.dialer), self.notified.subscribe());
        let limits =
            StartLimits { total: Duration::from_millis(plan.start_timeout_ms), stall: Duration::from_millis(plan.stall_timeout_ms) };
        Box::pin(async move { wait_until_ready(&plan.readiness, &dialer, limits, (progress, notified)).await })
    }

    /// `None` once the program runs; how it ended where it never did.
    async fn until_executed(&mut self, events: &mut mpsc::Receiver<InitEvent>, commands: &mut mpsc::Receiver<Command>) -> Option<Ending> {
        while self.state.process().is_none() {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => if let Some(ending) = self.hear(event).await {
                        return Some(ending);
                    },
                    None => return Some(Ending::default()),
                },
                Some(command) = commands.recv() => self.obey(command).await,
                () = until(self.silent_at) => self.give_init_up().await,
            }
        }
        None
    }

    /// What a hostile worker brought its init to wait for does not keep the worker alive: who can kill the init is the launcher.
    async fn give_init_up(&mut self) {
        self.silent_at = None;
        tracing::warn!(worker = %self.id, "its init does not carry the stop out: it is killed");
        if let Err(error) = self.tools.launcher.send(&ToLauncher::Kill { worker_id: self.id.clone() }).await {
            tracing::error!(worker = %self.id, %error, "the launcher can't be told to kill it");
        }
    }

    async fn hear(&mut self, (message, mut fds): InitEvent) -> Option<Ending> {
        match message {
            FromInit::Started { start_ticks } => self.executed(fds.pop(), start_ticks),
            FromInit::Notify { text } if text.lines().any(|l| l == "READY=1") => drop(self.notified.send_replace(true)),
            FromInit::Pressure { pressure } => self.short_of_memory(pressure),
            FromInit::OomKills { kills } => self.killed_for_want_of_memory(&kills),
            FromInit::SetupFailed(failure) => return Some(Verdict::SetupFailed(failure).into()),
            FromInit::ExecFailed { errno, message } => return Some(Verdict::ExecFailed { errno, message }.into()),
            FromInit::Ended { verdict: verdict @ Verdict::Unkillable { .. }, resources } => {
                // News, not the end: the init goes on waiting for them, and says so when they are gone.
                self.silent_at = None;
                self.teller.change(&self.view, |view| {
                    view.generation += 1;
                    view.resources = *resources;
                    view.verdict = Some(said(verdict));
                    true
                });
            }
            FromInit::Ended { verdict, resources } => {
                // It waits for this only so that nothing is said into a closing channel; it goes without it, too.
                let _ = self.link.send(&ToInit::Ack).await;
                return Some(Ending { verdict: Some(self.explain(verdict)), resources: *resources });
            }
            _ => {}
        }
        None
    }

    fn executed(&mut self, pidfd: Option<OwnedFd>, start_ticks: Option<u64>) {
        let pid = pidfd.as_ref().and_then(host_pid);
        if let Some(ticks) = start_ticks {
            let _ = self.known.start_ticks.set(ticks);
        }
        let shown = pid.map_or_else(|| "one that has ended already".to_owned(), |pid| pid.to_string());
        self.story.tell("spawn_process", "{} runs as pid {}", &[&self.plan.executable.display(), &shown]);
        self.step(Event::Executed { process: Process { pid } }, |view| view.started_at = Some(now()));
        let group = self.view.borrow().cgroup.path.clone().unwrap_or_else(|| "no cgroup".to_owned());
        self.story.tell("spawn_registered", "{} is registered with its processes in {}", &[&self.id, &group]);
        self.forward();
        if self.plan.readiness == Readiness::None {
            // Here and not by the probes: a program that ends at once was ready before.
            self.ready();
        } else {
            self.story.tell("spawn_waiting", "waiting until {} answers", &[&self.id]);
        }
    }

    fn forward(&mut self) {
        let Some(listener) = self.port.as_ref().and_then(|p| p.listener()) else { return };
        let (dialer, usage) = (Arc::clone(&self.dialer), Arc::clone(&self.usage));
        let route = Route { dialer, usage, passage: self.gate.passage(), view: self.view.subscribe() };
        match Forwarder::start(listener, route) {
            Ok(forwarder) => self.forwarder = Some(forwarder),
            Err(error) => tracing::error!(worker = %self.id, %error, "can't forward the worker's port"),
        }
    }

    /// It answers. One that is being stopped stays that.
    fn ready(&mut self) {
        // It has done nothing since now.
        self.usage.touch();
        match self.state {
            State::Starting { .. } => {
                // The story first: who waits for the state reads it next.
                self.story.tell("spawn_complete", "{} is ready", &[&self.id]);
                self.step(Event::Answered, |view| view.ready_at = Some(now()));
            }
            State::Thawing { .. } => self.step(Event::Answered, |_| {}),
            _ => {}
        }
    }

    async fn probed(&mut self, answered: Result<(), NotReady>) {
        match answered {
            Ok(()) => self.ready(),
            Err(NotReady { last_probe }) => {
                self.last_probe = last_probe;
                self.ask_to_stop(StoppedBy::Readiness, Some(Duration::ZERO)).await;
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Stop { by, grace } => self.ask_to_stop(by, grace).await,
            Command::Signal { signal } => drop(self.link.send(&ToInit::Signal { signal }).await),
            Command::Tell { text } => self.story.tell("device", "{}: {}", &[&self.id, &text]),
            Command::ShowLimits { now, changed, shown } => {
                self.tell_init_of_limits().await;
                self.show_limits(now, &changed, shown);
            }
            Command::NotInForce { note } => self.show_not_in_force(note),
            Command::Freeze { tell } => self.freeze_by_request(tell),
            Command::Thaw { tell } => self.thaw_by_request(tell),
        }
    }

    /// The init knows who asked for the end, the probes know why.
    fn explain(&self, verdict: Verdict) -> Verdict {
        match verdict {
            // After a thaw.
            Verdict::Stopped { by: StoppedBy::Readiness, .. } if self.view.borrow().ready_at.is_some() => {
                Verdict::HealthFailed { last_probe: self.last_probe.clone() }
            }
            Verdict::Stopped { by: StoppedBy::Readiness, .. } => Verdict::StartTimeout { last_probe: self.last_probe.clone() },
            other => other,
        }
    }

    fn progress(&self) -> Progress {
        let leaf = self.view.borrow().cgroup.path.clone();
        Progress::new(Arc::clone(&self.tools.launcher.cgroup), leaf, (Arc::clone(&self.tools.logs), self.id.clone()))
    }
}

/// Probes until the worker answers, or it is too late.
type Probing = BoxFuture<'static, Result<(), NotReady>>;

async fn answer(probing: &mut Option<Probing>) -> Result<(), NotReady> {
    match probing {
        Some(probing) => probing.await,
        None => std::future::pending().await,
    }
}

/// The number by which this pid namespace knows the process (`fdinfo` of a pidfd); `None` where it was reaped already (-1 there) or is of
/// another namespace (0).
fn host_pid(pidfd: &OwnedFd) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    text.lines().find_map(|l| l.strip_prefix("Pid:")).and_then(|n| n.trim().parse().ok()).filter(|pid| *pid > 0)
}
