//! The launcher's loop: requests from the hive, ends of inits, removal of what they leave.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rbee_hive_devices::Inventory;
use rbee_hive_policy::{OnHiveExit, WorkerId, WorkerRequest};
use rbee_hive_sys::clone::SingleThreaded;
use rustix::process::{Signal as RustixSignal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::answer::{Asked, Hive, MAX_WAITING, Trial, tell};
use super::audit::Audit;
use super::confine::{self, Confined};
use super::descriptors::{Asker, Handed};
use super::directories::Directories;
use super::gpu_locks::{Gone, GpuLocks};
use super::ledger::{Ended, Ledger};
use super::pace::Pace;
use super::policies::Policies;
use super::uids::Uids;
use super::{LauncherChannel, LauncherOptions, Purpose};
use crate::cgroup::{Removal, Tree};
use crate::protocol::{ChannelError, FromLauncher, LaunchError, LaunchErrorKind};
use crate::step::CallError;

/// Pause between two tries to remove a cgroup that is still busy.
const TRY_AGAIN: Duration = Duration::from_millis(2);
/// poll(2) counts in whole milliseconds.
const HALF_TICK: Duration = Duration::from_micros(500);
/// After this the rest of a worker's cgroups is told as left behind.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How long a launcher without a hive waits for inits that end with it.
const LINGER: Duration = Duration::from_secs(15);

/// Everything that the launcher holds.
pub(super) struct Launcher {
    pub(super) options: LauncherOptions,
    pub(super) proof: SingleThreaded,
    pub(super) tree: Tree,
    pub(super) directories: Directories,
    pub(super) policies: Policies,
    pub(super) uids: Uids,
    pub(super) gpu_locks: GpuLocks,
    pub(super) ledger: Ledger,
    pub(super) inventory: Inventory,
    /// Closed to workers in the host's network.
    pub(super) hive_ports: Vec<(u16, u16)>,
    pub(super) confined: Confined,
    pub(super) asker: Asker,
    pub(super) audit: Audit,
    pub(super) spawns: Pace<(Asked, WorkerRequest, Handed)>,
    /// What else is as much work as a start, and so has the spawns' rate.
    pub(super) trials: Pace<(Asked, Trial)>,
}

pub(super) enum Life {
    Serving,
    /// The hive wants the end: every worker was killed. Whether it may still ask for something, in vain.
    ShuttingDown {
        asks: bool,
    },
    /// The hive is gone without a word: workers that end with it are waited for, the others are left to their inits.
    Orphaned,
}

impl Launcher {
    /// Makes the cgroup root and the directories, reads the inventory, proves that there is one thread.
    pub(super) fn prepare(options: LauncherOptions) -> Result<Self, LaunchError> {
        detach_from_terminal();
        let confined = Confined::enter()?;
        crate::oom::spare();
        crate::init::leave_real_time().map_err(|e| LaunchError::setup("leave real time", e))?;
        let inventory = super::resolve::devices::inventory(&options)?;
        let policies = Policies::open(&options)?;
        let directories = Directories::open(&options).map_err(|e| LaunchError::setup("make directories", e))?;
        // The tree comes last: where it can't be made, only the directories have to go again.
        let rest = || {
            let uids =
                Uids::new(&options).map_err(|e| LaunchError::setup("open the uid locks", CallError::new("open(worker-uids.lock)", e)))?;
            let proof = SingleThreaded::prove()
                .map_err(|e| LaunchError::setup("prove that there is one thread", CallError::new("read(/proc/self/task)", e)))?;
            let tree = Tree::open(options.cgroup_root.as_deref(), &options.default_cgroup_root)
                .map_err(|e| LaunchError::new(LaunchErrorKind::SetupFailed, format!("make the cgroup root: {}", error_chain(&e))))?;
            Ok((uids, proof, tree))
        };
        let (uids, proof, tree) = rest().inspect_err(|_| directories.remove_empty())?;
        let ledger = Ledger::new(options.max_workers, options.memory_total);
        let (spawns, trials) = (Pace::new(options.spawn_interval, MAX_WAITING), Pace::new(options.spawn_interval, MAX_WAITING));
        let asker = Asker::new(nix::unistd::getppid().as_raw(), options.purpose);
        let audit = Audit::new(Instant::now());
        let gpu_locks = GpuLocks::new(&options);
        Ok(Self {
            options,
            proof,
            tree,
            directories,
            policies,
            uids,
            gpu_locks,
            ledger,
            inventory,
            hive_ports: vec![],
            confined,
            asker,
            audit,
            spawns,
            trials,
        })
    }

    /// Serves until the hive is gone or says so.
    pub(super) fn serve(mut self, channel: &LauncherChannel) -> ExitCode {
        if let Err(error) = self.greet(channel) {
            tell(channel, &FromLauncher::Fatal { error }, &[]);
            self.tree.destroy();
            self.directories.remove_empty();
            return ExitCode::FAILURE;
        }
        let mut life = Life::Serving;
        let mut deadline = None;
        loop {
            let hive_talks = self.wait(channel, deadline, &life);
            self.reap();
            self.release(channel);
            if hive_talks {
                let (heard, served) = (self.answer(channel, &life), matches!(life, Life::Serving));
                life = match (heard, served) {
                    (Hive::Talks, _) => life,
                    (Hive::Leaves, _) => Life::ShuttingDown { asks: true },
                    (Hive::Gone, true) => Life::Orphaned,
                    (Hive::Gone, false) => Life::ShuttingDown { asks: false },
                };
                if served && !matches!(life, Life::Serving) {
                    deadline = Some(Instant::now() + LINGER);
                }
            }
            // Not for a hive that is gone: nobody would hold what is started now.
            if matches!(life, Life::Serving) {
                self.start_what_is_due(channel);
            }
            if self.nothing_to_wait_for(&life) || deadline.is_some_and(|d| Instant::now() >= d) {
                return self.finish();
            }
        }
    }

    fn nothing_to_wait_for(&self, life: &Life) -> bool {
        let mut workers = self.ledger.entries.values();
        match life {
            Life::Serving => false,
            Life::ShuttingDown { .. } => self.ledger.entries.is_empty(),
            Life::Orphaned => workers.all(|e| e.on_hive_exit == OnHiveExit::Keep && e.ended.is_none()),
        }
    }

    /// Puts the hive into its own group, and tells it that it can begin.
    fn greet(&mut self, channel: &LauncherChannel) -> Result<(), LaunchError> {
        let hive = self.asker.pid;
        let broken = |source: std::io::Error| LaunchError::setup("talk to the hive", CallError::new("poll", source));
        // It holds the other end: while that is open, the parent was and is the hive.
        let mut list = [PollFd::new(channel.as_fd(), PollFlags::empty())];
        poll(&mut list, PollTimeout::ZERO).map_err(|e| broken(e.into()))?;
        if list[0].any().unwrap_or(true) {
            return Err(broken(std::io::ErrorKind::BrokenPipe.into()));
        }
        // A `run` goes where it was told to go; under systemd the hive's own unit is its place: leaving it would take it out of sight.
        let stays = self.options.purpose == Purpose::Run || std::env::var_os("INVOCATION_ID").is_some();
        let refused = |e| LaunchError::new(LaunchErrorKind::SetupFailed, format!("enter the hive's own cgroup: {}", error_chain(&e)));
        self.tree.take_in(hive, stays).map_err(refused)?;
        if !stays {
            // Whoever started them may run out of memory of its own.
            self.tree.enter().map_err(refused)?;
        }
        let mut host = super::resolve::devices::host_features(&self.tree);
        host.insert(confine::SETTING.into(), self.confined.feature());
        host.extend(super::memory::features(&self.tree));
        let hello = FromLauncher::Hello { cgroup: self.tree.facts(), host };
        let sent =
            channel.send(&hello, &[]).and_then(|()| channel.set_nonblocking().map_err(|source| ChannelError::Io { call: "fcntl", source }));
        sent.map_err(|e| LaunchError::new(LaunchErrorKind::SetupFailed, format!("talk to the hive: {}", error_chain(&e))))
    }

    /// Waits for the next event; whether the hive has something to say.
    fn wait(&self, channel: &LauncherChannel, deadline: Option<Instant>, life: &Life) -> bool {
        let removing = self.ledger.entries.values().any(|e| e.ended.is_some());
        let again = removing.then(|| Instant::now() + TRY_AGAIN);
        let timeout = match [again, deadline, self.spawns.due(), self.trials.due()].into_iter().flatten().min() {
            // Rounded up: a wait that ends just before its time would be repeated without a pause.
            Some(due) => PollTimeout::try_from(due.saturating_duration_since(Instant::now()) + HALF_TICK).unwrap_or(PollTimeout::ZERO),
            None => PollTimeout::NONE,
        };
        let inits = self.ledger.entries.values().filter(|e| e.ended.is_none());
        let mut list: Vec<PollFd<'_>> = inits.map(|e| PollFd::new(e.pidfd.as_fd(), PollFlags::POLLIN)).collect();
        let listens = matches!(life, Life::Serving | Life::ShuttingDown { asks: true });
        if listens {
            list.push(PollFd::new(channel.as_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut list, timeout);
        listens && list.last().and_then(PollFd::any).unwrap_or(false)
    }

    /// Takes the status of every init that has ended.
    fn reap(&mut self) {
        for entry in self.ledger.entries.values_mut().filter(|e| e.ended.is_none()) {
            let (code, signal) = match waitid(WaitId::PidFd(entry.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(Some(status)) => (status.exit_status(), status.terminating_signal()),
                Ok(None) | Err(rustix::io::Errno::INTR) => continue,
                Err(_) => (None, None),
            };
            entry.ended = Some(Ended { code, signal, since: Instant::now() });
        }
    }

    /// Removes the cgroups of ended workers, and tells the hive of each that is gone.
    fn release(&mut self, channel: &LauncherChannel) {
        let ended: Vec<WorkerId> = self.ledger.entries.iter().filter(|(_, e)| e.ended.is_some()).map(|(id, _)| id.clone()).collect();
        for id in ended {
            let left = match self.tree.remove_leaves(&id) {
                Removal::Done => vec![],
                Removal::Busy { left } => {
                    // An init that was killed leaves the kernel to end its namespace: this makes sure of the cgroup.
                    let _ = self.tree.kill_leaf(&id);
                    let waited = self.ledger.entries[&id].ended.as_ref().map_or(GIVE_UP, |e| e.since.elapsed());
                    if waited < GIVE_UP {
                        continue;
                    }
                    left
                }
            };
            let Some(entry) = self.ledger.entries.remove(&id) else { continue };
            let stuck = self.gpu_locks.unlock(entry.locks, if left.is_empty() { Gone::All } else { Gone::Not });
            self.ledger.stuck.extend(stuck.into_iter().map(|number| (number, id.clone())));
            let (code, signal) = entry.ended.map_or((None, None), |e| (e.code, e.signal));
            if self.options.purpose == Purpose::Run {
                let _ = self.directories.forget(id.as_str());
            }
            tell(channel, &FromLauncher::Released { worker_id: id, code, signal, left }, &[]);
        }
    }

    pub(super) fn kill_everything(&self) {
        self.ledger.entries.keys().for_each(|id| self.kill_one(id));
    }

    pub(super) fn kill_one(&self, id: &WorkerId) {
        let Some(entry) = self.ledger.entries.get(id) else { return };
        // What this leaves, its init's end takes.
        let _ = self.tree.kill_leaf(id);
        let _ = pidfd_send_signal(&entry.pidfd, RustixSignal::KILL);
    }

    /// Removes what was made, as far as no worker uses it any more.
    fn finish(mut self) -> ExitCode {
        if !self.ledger.entries.is_empty() {
            tracing::info!(workers = self.ledger.entries.len(), "leaving workers behind that outlive the hive");
            return ExitCode::SUCCESS;
        }
        let left = self.tree.destroy();
        if self.options.purpose == Purpose::Serve {
            self.directories.remove_socket();
        }
        self.directories.remove_empty();
        for path in &left {
            tracing::warn!(path, "can't remove this cgroup");
        }
        if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The terminal's signals are for the hive, which stops its workers in order.
fn detach_from_terminal() {
    // EPERM means that this process leads a session already, which is what is wanted.
    let _ = nix::unistd::setsid();
    // Rust ignores SIGPIPE at start already; a hang-up of the terminal is for the hive as well.
    let _ = rbee_hive_sys::signals::ignore_hangup();
}

pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
