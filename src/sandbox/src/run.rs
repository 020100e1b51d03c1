//! `rbee-hive run`: one sandboxed command in the foreground, by the same launcher and init, without a hive.
//!
//! Its exit status is the command's, 128+n for a signal, 125 where the sandbox could not be made, 126 and 127 as a shell has them.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rbee_hive_policy::learn::Observations;
use rbee_hive_policy::{NetworkMode, NotInForce, SandboxPlan, WorkerRequest};

use crate::launcher::{HiveChannel, StartError, Started, start};
use crate::protocol::{Channel, ChannelError, FromInit, FromLauncher, LaunchError, ToInit, ToLauncher};
use crate::publish::Published;
use crate::streams::Streams;
use crate::{SetupFailure, StoppedBy, Verdict};

/// Where no policy says how long a stop may take.
const DEFAULT_GRACE_MS: u64 = 10_000;

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The launcher's own arguments.
    pub launcher: Vec<OsString>,
    /// The command.
    pub request: WorkerRequest,
    /// Where the verdict goes as JSON.
    pub report: Option<PathBuf>,
    /// After this it is asked to stop, as its policy says.
    pub stop_after: Option<Duration>,
    /// A port of its own network that is to be reached by the same number of this host's loopback.
    pub publish: Option<u16>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The exit status for `rbee-hive run`.
    pub status: u8,
    /// What was not in force.
    pub not_in_force: Vec<NotInForce>,
    /// What it did, where it was watched.
    pub watched: Option<WatchedRun>,
}

/// A watched command: under which plan it ran, and what it did.
#[derive(Clone, Debug)]
pub struct WatchedRun {
    /// The plan.
    pub plan: Box<SandboxPlan>,
    /// What was seen.
    pub seen: Observations,
    /// Highest memory use, bytes.
    pub memory_peak: Option<u64>,
}

/// Why there is no outcome: neither the command ran nor is it known why not.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The launcher.
    #[error("start the launcher")]
    Start(#[from] StartError),
    /// A channel.
    #[error("talk to the sandbox")]
    Channel(#[from] ChannelError),
    /// Signals or descriptors.
    #[error("{call}")]
    Call {
        /// What was tried.
        call: &'static str,
        /// Why it failed.
        #[source]
        source: nix::Error,
    },
    /// The published port.
    #[error("listen on 127.0.0.1:{port}")]
    Publish {
        /// Which.
        port: u16,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The report.
    #[error("write the report {path:?}")]
    Report {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Runs the command to its end and takes everything back.
pub fn run(options: &RunOptions) -> Result<RunOutcome, RunError> {
    let publish = |port| Published::open(port).map_err(|source| RunError::Publish { port, source });
    let published = options.publish.map(publish).transpose()?;
    let outcome = match start(&options.launcher) {
        Ok(started) => {
            let streams = Streams::look();
            let outcome = supervise(started, options, published);
            streams.give_back();
            outcome?
        }
        Err(StartError::Fatal(error)) => RunOutcome { verdict: not_made(&error), status: 125, not_in_force: vec![], watched: None },
        Err(e) => return Err(e.into()),
    };
    if let Some(path) = &options.report {
        write_report(path, &outcome.verdict).map_err(|source| RunError::Report { path: path.clone(), source })?;
    }
    Ok(outcome)
}

/// Writes the report of a run that never came to its launcher: `setup_failed`, and why.
pub fn report_not_made(path: &Path, why: &str) -> std::io::Result<()> {
    let failure = SetupFailure { step: "prepare the run".into(), errno: None, message: why.to_owned(), hint: None };
    write_report(path, &Verdict::SetupFailed(failure))
}

fn write_report(path: &Path, verdict: &Verdict) -> std::io::Result<()> {
    let mut value = serde_json::to_value(verdict)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("message".into(), verdict.sentence().into());
    }
    std::fs::write(path, serde_json::to_vec_pretty(&value)?)
}

struct Run {
    launcher: HiveChannel,
    init: Channel<ToInit, FromInit>,
    verdict: Option<Verdict>,
    not_in_force: Vec<NotInForce>,
    plan: Option<Box<SandboxPlan>>,
    /// Its parts may come before the plan does.
    seen: Observations,
    memory_peak: Option<u64>,
    stop_at: Option<Instant>,
    published: Option<Published>,
    init_open: bool,
    released: bool,
}

fn supervise(mut started: Started, options: &RunOptions, published: Option<Published>) -> Result<RunOutcome, RunError> {
    let signals = catch_signals()?;
    let (init, theirs) = Channel::<ToInit, FromInit>::pair()?;
    let streams =
        [std::io::stdin().as_fd(), std::io::stdout().as_fd(), std::io::stderr().as_fd()].map(|fd| BorrowedFd::try_clone_to_owned(&fd));
    let streams: Vec<_> =
        streams.into_iter().collect::<Result<_, _>>().map_err(|e| RunError::Channel(ChannelError::Io { call: "dup", source: e }))?;
    let mut fds = vec![theirs.as_fd()];
    fds.extend(streams.iter().map(AsFd::as_fd));
    started.channel.send(&ToLauncher::Spawn { seq: 1, request: Box::new(options.request.clone()) }, &fds)?;
    drop((theirs, streams));
    let mut run = Run {
        launcher: started.channel,
        init,
        verdict: None,
        not_in_force: vec![],
        plan: None,
        seen: Observations::default(),
        memory_peak: None,
        stop_at: options.stop_after.map(|after| Instant::now() + after),
        published,
        init_open: true,
        released: false,
    };
    while !run.released {
        run.turn(&signals)?;
    }
    // The launcher removes the cgroup root; its end of the channel closes when it is done.
    let _ = run.launcher.send(&ToLauncher::Shutdown, &[]);
    while run.launcher.recv().is_ok() {}
    let _ = started.child.wait();
    let verdict =
        run.verdict.unwrap_or(Verdict::Lost { why: "the sandbox's init was killed before it could say how the command ended".into() });
    let (seen, memory_peak) = (run.seen, run.memory_peak);
    let watched = run.plan.filter(|plan| plan.watch.is_some()).map(|plan| WatchedRun { plan, seen, memory_peak });
    Ok(RunOutcome { status: verdict.exit_status(), verdict, not_in_force: run.not_in_force, watched })
}

fn catch_signals() -> Result<SignalFd, RunError> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        set.add(signal);
    }
    set.thread_block().map_err(|source| RunError::Call { call: "sigprocmask(SIG_BLOCK)", source })?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(|source| RunError::Call { call: "signalfd", source })
}

impl Run {
    fn turn(&mut self, signals: &SignalFd) -> Result<(), RunError> {
        let mut list = vec![PollFd::new(self.launcher.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if self.init_open {
            list.push(PollFd::new(self.init.as_fd(), PollFlags::POLLIN));
            list.extend(self.published.as_ref().map(|published| PollFd::new(published.as_fd(), PollFlags::POLLIN)));
        }
        // Rounded up, so that the time has come when poll returns.
        let left = self.stop_at.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        match poll(&mut list, left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(source) => return Err(RunError::Call { call: "poll", source }),
        }
        let ready: Vec<bool> = list.iter().map(|entry| entry.any().unwrap_or(false)).collect();
        if ready.get(2).copied().unwrap_or(false) {
            self.hear_init();
        }
        if ready.get(3).copied().unwrap_or(false) && self.published.as_mut().is_some_and(Published::accept) {
            // Answers come in order, as the connections wait.
            let _ = self.init.send(&ToInit::Sockets { seq: 0, count: 1 }, &[]);
        }
        if ready[1] {
            self.forward(signals);
        }
        if ready[0] {
            self.hear_launcher()?;
        }
        self.stop_in_time();
        Ok(())
    }

    fn hear_launcher(&mut self) -> Result<(), RunError> {
        match self.launcher.recv() {
            Ok((FromLauncher::Refused { error, .. }, _)) => {
                self.verdict = Some(not_made(&error));
                self.released = true;
            }
            Ok((FromLauncher::Spawned { not_in_force, plan, .. }, _)) => {
                self.not_in_force = not_in_force;
                if plan.network == NetworkMode::Host {
                    // It binds the port itself, where anybody on this host reaches it.
                    self.published = None;
                }
                self.plan = Some(plan);
            }
            Ok((FromLauncher::Released { .. }, _)) => {
                // What the init said last may still be in its channel.
                while self.init_open {
                    self.hear_init();
                }
                self.released = true;
            }
            Ok(_) => {}
            Err(ChannelError::Closed) => {
                self.verdict.get_or_insert(Verdict::Lost { why: "the launcher is gone".into() });
                self.released = true;
            }
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    fn stop_in_time(&mut self) {
        if self.stop_at.is_some_and(|at| Instant::now() >= at) {
            self.stop_at = None;
            let grace_ms = self.plan.as_ref().map_or(DEFAULT_GRACE_MS, |plan| plan.stop.grace_ms);
            let _ = self.init.send(&ToInit::Stop { by: StoppedBy::Request, grace_ms }, &[]);
        }
    }

    fn hear_init(&mut self) {
        match self.init.recv() {
            Ok((FromInit::SetupFailed(failure), _)) => self.verdict = Some(Verdict::SetupFailed(failure)),
            Ok((FromInit::ExecFailed { errno, message }, _)) => self.verdict = Some(Verdict::ExecFailed { errno, message }),
            Ok((FromInit::Sockets { .. } | FromInit::ConnectFailed { .. }, mut sockets)) => {
                self.published.iter_mut().for_each(|published| published.connect(sockets.pop()));
            }
            Ok((FromInit::Observed { part }, _)) => self.seen.absorb(*part),
            Ok((FromInit::Ended { verdict, resources }, _)) => {
                self.verdict = Some(verdict);
                self.memory_peak = resources.memory_peak;
                let _ = self.init.send(&ToInit::Ack, &[]);
            }
            Ok(_) => {}
            Err(_) => self.init_open = false,
        }
    }

    fn forward(&self, signals: &SignalFd) {
        while let Ok(Some(got)) = signals.read_signal() {
            let _ = self.init.send(&ToInit::Signal { signal: got.ssi_signo as i32 }, &[]);
        }
    }
}

fn not_made(error: &LaunchError) -> Verdict {
    let kind = serde_json::to_value(error.kind).ok().and_then(|v| v.as_str().map(str::to_owned));
    Verdict::SetupFailed(SetupFailure {
        step: error.step.clone().or(kind).unwrap_or_default(),
        errno: error.errno,
        message: match error.tried.as_slice() {
            [] => error.message.clone(),
            tried => format!("{}; tried {}", error.message, tried.join(", ")),
        },
        hint: error.hint.clone(),
    })
}
