//! What the launcher says to what the hive asks. A refusal is told twice: to the hive, and to who reads the log.
//!
//! Must never know: how a worker is made.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rbee_hive_policy::{WorkerId, WorkerRequest};

use super::audit::Refusal;
use super::descriptors::Handed;
use super::serve::{Launcher, Life, error_chain};
use super::{LauncherChannel, Purpose};
use crate::protocol::{ChannelError, FromLauncher, LaunchError, LaunchErrorKind, MAX_MESSAGE, ToLauncher};
use crate::step::CallError;

/// Most spawns that wait for their time, each with a descriptor: half of what a process has where nobody raises the limit.
pub(super) const MAX_WAITING: usize = 512;
/// Messages that are answered before the inits are looked at again.
const MAX_TURN: usize = 64;

/// A request, as far as its answer needs to know it.
pub(super) struct Asked {
    seq: u64,
    op: &'static str,
    worker: Option<String>,
}

/// What starts no worker, and is as much work as a start: so it has the starts' rate.
pub(super) enum Trial {
    /// A policy is judged, in a cgroup and namespaces that are made for it.
    Judge { policy: String },
    /// Files are looked for, and an id-mapping is made for a model that only its owner may read.
    Find { policy: String, model: String },
}

/// What the hive's channel came to.
pub(super) enum Hive {
    Talks,
    Leaves,
    Gone,
}

impl Launcher {
    /// Answers what the hive has asked, as far as one turn goes.
    pub(super) fn answer(&mut self, channel: &LauncherChannel, life: &Life) -> Hive {
        for _ in 0..MAX_TURN {
            let (message, fds) = match channel.recv() {
                Ok(got) => got,
                Err(e) if e.would_block() => return Hive::Talks,
                Err(e) if e.is_one_bad_message() => {
                    let error = LaunchError::new(LaunchErrorKind::InvalidParams, error_chain(&e));
                    self.audit(&Refusal::of("unreadable", None, &error));
                    continue;
                }
                Err(_) => return Hive::Gone,
            };
            if let (ToLauncher::Shutdown, Life::Serving) = (&message, life) {
                self.kill_everything();
                self.turn_away(channel);
                return Hive::Leaves;
            }
            let asked = Asked::of(&message);
            match life {
                Life::Serving => self.carry_out(channel, asked, message, fds),
                _ => self.refuse(channel, &asked, over()),
            }
        }
        Hive::Talks
    }

    fn carry_out(&mut self, channel: &LauncherChannel, asked: Asked, message: ToLauncher, fds: Vec<OwnedFd>) {
        if !fds.is_empty() && !matches!(message, ToLauncher::Spawn { .. }) {
            let text = format!("{} descriptors came with a request that takes none", fds.len());
            return self.refuse(channel, &asked, LaunchError::new(LaunchErrorKind::InvalidParams, text));
        }
        match message {
            ToLauncher::Spawn { request, .. } => self.queue(channel, asked, *request, fds),
            ToLauncher::PolicyList { seq } => {
                let policies = self.policies.list();
                self.reply(channel, &asked, &FromLauncher::Policies { seq, policies });
            }
            ToLauncher::PolicyShow { seq, name } => match self.show(seq, &name) {
                Ok(policy) => self.reply(channel, &asked, &policy),
                Err(error) => self.refuse(channel, &asked, error),
            },
            ToLauncher::PolicyTexts { seq, name } => match self.policies.load(&name) {
                Ok(loaded) => self.reply(channel, &asked, &FromLauncher::Texts { seq, texts: loaded.texts }),
                Err(error) => self.refuse(channel, &asked, error),
            },
            ToLauncher::PolicyJudge { name, .. } => self.queue_trial(channel, asked, Trial::Judge { policy: name }),
            ToLauncher::Find { policy, model, .. } => self.queue_trial(channel, asked, Trial::Find { policy, model }),
            ToLauncher::Forget { seq, worker_id } => match self.forget(&worker_id) {
                Ok(()) => tell(channel, &FromLauncher::Done { seq }, &[]),
                Err(error) => self.refuse(channel, &asked, error),
            },
            ToLauncher::Update { seq, worker_id, limits, below_use } => match self.update(&worker_id, &limits, below_use) {
                Ok((limits, not_in_force)) => self.reply(channel, &asked, &FromLauncher::Updated { seq, limits, not_in_force }),
                Err(error) => self.refuse(channel, &asked, error),
            },
            ToLauncher::Kill { worker_id } => self.kill_one(&worker_id),
            ToLauncher::Inspect { seq, worker_id } => tell(channel, &self.inspect(seq, &worker_id), &[]),
            ToLauncher::Ports { hive, workers } => self.hive_ports = vec![(hive, hive), workers],
            ToLauncher::Shutdown => {}
        }
    }

    /// Says no, to the hive and to who reads the log. A foreground command has nobody to be guarded from: it is told, and that is all.
    fn refuse(&mut self, channel: &LauncherChannel, asked: &Asked, error: LaunchError) {
        self.audit(&Refusal::of(asked.op, asked.worker.as_deref(), &error));
        tell(channel, &FromLauncher::Refused { seq: asked.seq, error: error.bounded() }, &[]);
    }

    fn audit(&mut self, refusal: &Refusal<'_>) {
        if self.options.purpose == Purpose::Serve {
            self.audit.refused(refusal);
        }
    }

    /// An answer that may be longer than a message can be.
    fn reply(&mut self, channel: &LauncherChannel, asked: &Asked, message: &FromLauncher) {
        match send(channel, message, &[]) {
            Err(ChannelError::TooLong { len }) => {
                let text = format!("the answer has {len} bytes, at most {MAX_MESSAGE} can be told");
                self.refuse(channel, asked, LaunchError::new(LaunchErrorKind::InvalidPolicy, text).with_hint("shorten the policy's file"));
            }
            other => heard(channel, other),
        }
    }

    /// Everything that waits, for good: nothing is started any more.
    fn turn_away(&mut self, channel: &LauncherChannel) {
        let spawns = self.spawns.drain().map(|(asked, ..)| asked);
        let waiting: Vec<_> = spawns.chain(self.trials.drain().map(|(asked, _)| asked)).collect();
        for asked in waiting {
            self.refuse(channel, &asked, over());
        }
        let _ = self.answer(channel, &Life::ShuttingDown { asks: true });
    }

    fn queue(&mut self, channel: &LauncherChannel, asked: Asked, request: WorkerRequest, fds: Vec<OwnedFd>) {
        let handed = match self.asker.check(fds) {
            Ok(handed) => handed,
            Err(error) => return self.refuse(channel, &asked, error),
        };
        if let Err((asked, ..)) = self.spawns.push((asked, request, handed)) {
            self.refuse(channel, &asked, crowded());
        }
    }

    fn queue_trial(&mut self, channel: &LauncherChannel, asked: Asked, trial: Trial) {
        if let Err((asked, _)) = self.trials.push((asked, trial)) {
            self.refuse(channel, &asked, crowded());
        }
    }

    pub(super) fn start_what_is_due(&mut self, channel: &LauncherChannel) {
        while let Some((asked, request, handed)) = self.spawns.pop(Instant::now()) {
            self.answer_spawn(channel, &asked, request, handed);
        }
        while let Some((asked, trial)) = self.trials.pop(Instant::now()) {
            let seq = asked.seq;
            let tried = match trial {
                Trial::Judge { policy } => {
                    self.judge(&policy).map(|judgement| FromLauncher::Judged { seq, judgement: Box::new(judgement) })
                }
                Trial::Find { policy, model } => self.find(&policy, &model).map(|()| FromLauncher::Done { seq }),
            };
            match tried {
                Ok(message) => self.reply(channel, &asked, &message),
                Err(error) => self.refuse(channel, &asked, error),
            }
        }
    }

    fn answer_spawn(&mut self, channel: &LauncherChannel, asked: &Asked, request: WorkerRequest, handed: Handed) {
        match self.spawn(request, handed) {
            Ok(spawned) => {
                let message = FromLauncher::Spawned {
                    seq: asked.seq,
                    policy_digest: spawned.policy_digest,
                    not_in_force: spawned.plan.not_in_force.clone(),
                    plan: Box::new(spawned.plan),
                    cgroup: spawned.cgroup,
                    init_pid: spawned.init_pid,
                };
                let pidfd = self.ledger.entries.get(&spawned.worker_id).map(|e| e.pidfd.as_fd());
                tell(channel, &message, &pidfd.into_iter().collect::<Vec<_>>());
            }
            Err(error) => self.refuse(channel, asked, error),
        }
    }

    /// Removes the directories of a worker that has ended.
    fn forget(&self, id: &WorkerId) -> Result<(), LaunchError> {
        if self.ledger.entries.contains_key(id) {
            let text = format!("worker {id} has not been taken down yet: its records stay");
            return Err(LaunchError::new(LaunchErrorKind::AlreadyExists, text));
        }
        let removed = self.directories.forget(id.as_str());
        removed
            .map_err(|e| LaunchError::setup("remove the worker's directories", CallError::new(format!("unlinkat({:?})", id.as_str()), e)))
    }

    fn show(&self, seq: u64, name: &str) -> Result<FromLauncher, LaunchError> {
        let loaded = self.policies.load(name)?;
        let resolved = serde_json::to_value(&loaded.policy).unwrap_or_default();
        Ok(FromLauncher::Policy { seq, source: loaded.texts.source, text: loaded.texts.text, resolved })
    }
}

impl Asked {
    fn of(message: &ToLauncher) -> Self {
        let (seq, op, worker) = match message {
            ToLauncher::Spawn { seq, request } => (*seq, "spawn", Some(request.worker_id.to_string())),
            ToLauncher::PolicyList { seq } => (*seq, "policy_list", None),
            ToLauncher::PolicyShow { seq, .. } => (*seq, "policy_show", None),
            ToLauncher::PolicyTexts { seq, .. } => (*seq, "policy_texts", None),
            ToLauncher::PolicyJudge { seq, .. } => (*seq, "policy_judge", None),
            ToLauncher::Find { seq, .. } => (*seq, "find", None),
            ToLauncher::Update { seq, worker_id, .. } => (*seq, "update", Some(worker_id.to_string())),
            ToLauncher::Kill { worker_id } => (0, "kill", Some(worker_id.to_string())),
            ToLauncher::Inspect { seq, worker_id } => (*seq, "inspect", Some(worker_id.to_string())),
            ToLauncher::Ports { .. } => (0, "ports", None),
            ToLauncher::Forget { seq, worker_id } => (*seq, "forget", Some(worker_id.to_string())),
            ToLauncher::Shutdown => (0, "shutdown", None),
        };
        Self { seq, op, worker }
    }
}

fn crowded() -> LaunchError {
    LaunchError::new(LaunchErrorKind::AtCapacity, format!("{MAX_WAITING} requests are waiting, the most that the launcher takes"))
}

fn over() -> LaunchError {
    LaunchError::new(LaunchErrorKind::ShuttingDown, "the launcher is shutting down and takes nothing more")
}

pub(super) fn tell(channel: &LauncherChannel, message: &FromLauncher, fds: &[BorrowedFd<'_>]) {
    heard(channel, send(channel, message, fds));
}

fn heard(channel: &LauncherChannel, sent: Result<(), ChannelError>) {
    match sent {
        // It is gone: the loop hears of it next.
        Ok(()) | Err(ChannelError::Closed) => {}
        Err(e) => tracing::error!(error = %e, fd = channel.as_raw_fd(), "can't tell the hive"),
    }
}

/// A hive that is slow to read gets a second; one that does not read at all is as good as gone.
fn send(channel: &LauncherChannel, message: &FromLauncher, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
    match channel.send(message, fds) {
        Err(e) if e.would_block() => {
            let mut list = [PollFd::new(channel.as_fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut list, PollTimeout::from(1000u16));
            channel.send(message, fds)
        }
        other => other,
    }
}
