//! The init's life while its worker lives: reap, log, connect, stop; then the verdict.
//!
//! ```text
//!  poll ──► control channel: sockets, connections, signals, freeze, stop   (its end is the hive's end: keep or kill)
//!       ──► signalfd: reap; the worker's own end leads to the ending
//!       ──► stdout, stderr: log          ──► notify socket: pass on
//!       ──► seccomp listener: a violation is recorded, and everything killed (a watched worker's other calls are noted, and go on)
//! ```
//! Nothing here waits without a bound, and a hive that does not read never blocks it.

mod as_worker;
mod connect;
mod ending;
mod freeze;
mod inspect;
mod io;
mod memory;
mod notify;
mod outbox;
mod reclaim;
mod stop;
mod violation;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rbee_hive_policy::OnHiveExit;
use rustix::process::{WaitOptions, WaitStatus, wait};

use super::logs::{LogFile, Pumped, Stream};
use super::watch::Watcher;
use super::{InitContext, Running, Stdio};
use crate::StoppedBy;
use crate::cgroup::WorkerLeaf;
use crate::protocol::{FromInit, Made, ToInit};
use freeze::Freezer;
use memory::MemoryWatch;
use notify::Notifications;
use outbox::Outbox;
use reclaim::Reclaiming;
use stop::Stopping;

/// Most signals that are read, and most processes that are reaped, before it is the turn of others.
const SIGNALS_A_TURN: usize = 64;
const REAPED_A_TURN: usize = 256;

/// How the worker's own process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MainExit {
    Exited { code: i32 },
    Signaled { signal: i32, core_dumped: bool },
}

impl MainExit {
    /// `None` where this was no end.
    fn of(status: WaitStatus) -> Option<Self> {
        let exited = status.exit_status().map(|code| Self::Exited { code });
        let core_dumped = libc::WCOREDUMP(status.as_raw());
        exited.or_else(|| status.terminating_signal().map(|signal| Self::Signaled { signal, core_dumped }))
    }
}

struct Supervisor {
    context: InitContext,
    worker: Pid,
    streams: Vec<Stream>,
    log: Option<LogFile>,
    signals: SignalFd,
    notifications: Option<Notifications>,
    outbox: Outbox,
    hive_gone: bool,
    acknowledged: bool,
    stopping: Option<Stopping>,
    main_exit: Option<MainExit>,
    /// When it was seen to have ended.
    main_ended: Option<Instant>,
    memory: MemoryWatch,
    /// Processes may have ended that were not reaped in the last turn.
    more_to_reap: bool,
    /// Seccomp filters that the worker has loaded.
    own_filters: usize,
    violation: Option<rbee_hive_sys::seccomp::Notified>,
    /// Takes note of every call, for `policy learn`.
    watcher: Option<Watcher>,
    /// Whether the worker's filter kills by itself, because nobody could listen.
    killing_filter: bool,
    /// The sandbox as it was made.
    made: Made,
    freezer: Freezer,
    reclaiming: Option<Reclaiming>,
}

/// Supervises until the worker has ended; the init's exit status.
pub(super) fn run(mut context: InitContext, running: Running) -> i32 {
    let Ok(signals) = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) else { return 1 };
    if context.control.set_nonblocking().is_err() {
        return 1;
    }
    let (log, streams) = open_log(&mut context, running.outputs);
    let notifications = context.notify.take().map(Notifications::new);
    let watcher = Watcher::new(&context.plan);
    let memory = MemoryWatch::new(std::mem::take(&mut context.oom), running.host_pid);
    let mut supervisor = Supervisor {
        context,
        worker: Pid::from_raw(running.pid),
        streams,
        log,
        signals,
        notifications,
        outbox: Outbox::default(),
        hive_gone: false,
        acknowledged: false,
        stopping: None,
        main_exit: None,
        main_ended: None,
        memory,
        more_to_reap: false,
        own_filters: 0,
        violation: None,
        watcher,
        killing_filter: false,
        made: running.made,
        freezer: Freezer::default(),
        reclaiming: None,
    };
    supervisor.killing_filter = supervisor.context.filters.is_some() && supervisor.context.listener.is_none();
    supervisor.reap();
    while supervisor.main_exit.is_none() {
        let timeout = supervisor.stopping.as_ref().and_then(Stopping::deadline);
        supervisor.turn(timeout);
        supervisor.enforce_grace();
    }
    ending::run(supervisor)
}

fn open_log(context: &mut InitContext, outputs: Option<[std::os::fd::OwnedFd; 2]>) -> (Option<LogFile>, Vec<Stream>) {
    let streams = outputs.map_or_else(Vec::new, |[out, err]| vec![Stream::new(out, "stdout"), Stream::new(err, "stderr")]);
    let log = match std::mem::replace(&mut context.stdio, Stdio::HandedOver) {
        // Without a log file the output is still read: a worker must not block on a pipe that nobody empties.
        Stdio::Logged { directory } => LogFile::open(directory).ok(),
        _ => None,
    };
    (log, streams)
}

impl Supervisor {
    fn leaf(&self) -> &WorkerLeaf {
        self.context.leaves.worker_leaf()
    }

    /// Waits for one round of events, at most until `deadline`, and handles them.
    fn turn(&mut self, deadline: Option<Instant>) {
        let ready = self.wait(deadline);
        if ready.memory || self.memory.is_due() {
            // Before the dead are counted: what came before is told before.
            self.look_at_memory();
        }
        if ready.violation {
            self.hear_calls();
        }
        if ready.signal {
            // What is left is read in the next turn.
            for _ in 0..SIGNALS_A_TURN {
                if !matches!(self.signals.read_signal(), Ok(Some(_))) {
                    break;
                }
            }
        }
        if ready.signal || self.more_to_reap {
            self.reap();
        }
        if ready.output {
            self.pump();
        }
        if ready.notify {
            self.pass_notifications();
        }
        if ready.control && !self.hive_gone {
            self.listen();
        }
        self.look_at_freezer();
        self.reclaim_a_piece();
        self.flush();
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Ready {
        let mut control = PollFlags::POLLIN;
        if !self.outbox.is_empty() {
            control |= PollFlags::POLLOUT;
        }
        let mut list = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let mut sources = vec![Source::Signal];
        if !self.hive_gone {
            list.push(PollFd::new(self.context.control.as_fd(), control));
            sources.push(Source::Control);
        }
        let full_until = self.log.as_mut().and_then(LogFile::full_until);
        for stream in self.streams.iter().filter(|_| full_until.is_none()) {
            list.push(PollFd::new(stream.as_fd(), PollFlags::POLLIN));
            sources.push(Source::Output);
        }
        if let Some(socket) = self.notifications.as_ref().and_then(Notifications::listening) {
            list.push(PollFd::new(socket, PollFlags::POLLIN));
            sources.push(Source::Notify);
        }
        if let (Some(listener), None) = (&self.context.listener, &self.violation) {
            list.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            sources.push(Source::Violation);
        }
        let deadline = if self.more_to_reap || self.reclaiming.is_some() { Some(Instant::now()) } else { deadline };
        for source in self.memory.listening() {
            list.push(PollFd::new(source.as_fd(), PollFlags::from_bits_truncate(source.flags().bits().cast_signed())));
            sources.push(Source::Memory);
        }
        let resumes = self.notifications.as_ref().and_then(Notifications::resumes);
        let deadline = deadline.into_iter().chain(resumes).chain(self.memory.resumes()).chain(full_until).chain(self.freezer.due()).min();
        let mut ready = Ready::default();
        if poll(&mut list, timeout_until(deadline)).is_err() {
            return ready;
        }
        for (entry, source) in list.iter().zip(sources) {
            if entry.any().unwrap_or(false) {
                ready.mark(source);
            }
        }
        ready
    }

    /// Reaps whatever has ended; notes how the worker's own process did.
    fn reap(&mut self) -> Reaped {
        // Not by nix: its statuses know no real-time signals, and a child that one of them ended would be reaped and lost.
        let options = WaitOptions::NOHANG | WaitOptions::from_bits_retain(libc::__WALL as u32);
        self.more_to_reap = false;
        for _ in 0..REAPED_A_TURN {
            match wait(options) {
                Ok(Some((pid, status))) if pid.as_raw_pid() == self.worker.as_raw() => {
                    self.main_exit = MainExit::of(status);
                    self.main_ended = Some(Instant::now());
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return Reaped::SomeLive,
                Err(_) => return Reaped::NoneLeft,
            }
        }
        // A worker whose processes end as fast as they are reaped must not keep commands waiting.
        self.more_to_reap = true;
        Reaped::SomeLive
    }

    /// Moves at most a few blocks of each stream, for a moment at most: a flood of output must not keep commands waiting, and a block of
    /// nothing but ends of lines takes its time.
    fn pump(&mut self) {
        const BLOCKS_A_TURN: usize = 16;
        const TIME_A_TURN: Duration = Duration::from_millis(20);
        let began = Instant::now();
        let Self { streams, log, .. } = self;
        streams.retain_mut(|stream| {
            for block in 0..BLOCKS_A_TURN {
                // One block each in any case: the one stream must not starve the other.
                if (block > 0 && began.elapsed() >= TIME_A_TURN) || log.as_mut().is_some_and(|log| log.full_until().is_some()) {
                    return true;
                }
                match stream.pump(log.as_mut()) {
                    Pumped::Some => {}
                    Pumped::Empty => return true,
                    Pumped::Ended => return false,
                }
            }
            true
        });
    }

    /// Handles what the hive has sent.
    fn listen(&mut self) {
        loop {
            match self.context.control.recv() {
                Ok((ToInit::Sockets { seq, count }, _)) => self.give_sockets(seq, count),
                Ok((ToInit::ConnectUnix { seq }, _)) => self.connect_unix(seq),
                Ok((ToInit::Signal { signal }, _)) => self.signal_by_request(signal),
                Ok((ToInit::Stop { by, grace_ms }, _)) => self.stop(by, Duration::from_millis(grace_ms)),
                Ok((ToInit::Made { seq }, _)) => self.tell_made(seq),
                Ok((ToInit::Inspect { seq }, _)) => self.inspect(seq),
                Ok((ToInit::Io { seq }, _)) => self.tell_io(seq),
                Ok((ToInit::ProcessIo { seq }, _)) => self.tell_process_io(seq),
                Ok((ToInit::Freeze { seq }, _)) => self.freeze(seq),
                Ok((ToInit::Thaw { seq }, _)) => self.thaw(seq),
                Ok((ToInit::Reclaim { seq }, _)) => self.begin_reclaim(seq),
                Ok((ToInit::Limits, _)) => self.follow_limits(),
                Ok((ToInit::Ack, _)) => self.acknowledged = true,
                Err(e) if e.would_block() => return,
                Err(e) if e.is_one_bad_message() => {} // one bad message is not the hive's end
                Err(_) => return self.lose_hive(),
            }
        }
    }

    fn lose_hive(&mut self) {
        self.hive_gone = true;
        self.outbox.clear();
        if self.context.plan.on_hive_exit == OnHiveExit::Kill {
            self.stop(StoppedBy::HiveExit, Duration::ZERO);
        }
        // Nobody is left who could wake it.
        let _ = self.run_again();
    }

    fn signal_by_request(&mut self, signal: i32) {
        self.signal_worker(signal);
        // Others wait until it runs again; on v1 this one would, too.
        if signal == libc::SIGKILL {
            let _ = self.run_again();
        }
    }

    fn signal_worker(&self, signal: i32) {
        // After the reap the number may belong to another process of the sandbox.
        if self.main_exit.is_none() {
            let _ = rbee_hive_sys::signals::send(self.worker.as_raw(), signal);
        }
    }

    fn say(&mut self, message: FromInit, fds: Vec<std::os::fd::OwnedFd>) {
        if !self.hive_gone {
            self.outbox.push(message, fds);
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.hive_gone && self.outbox.flush(&self.context.control).is_err() {
            self.lose_hive();
        }
    }
}

#[derive(Clone, Copy)]
enum Source {
    Signal,
    Control,
    Output,
    Notify,
    Violation,
    Memory,
}

#[derive(Default)]
struct Ready {
    signal: bool,
    control: bool,
    output: bool,
    notify: bool,
    violation: bool,
    memory: bool,
}

impl Ready {
    fn mark(&mut self, source: Source) {
        match source {
            Source::Signal => self.signal = true,
            Source::Control => self.control = true,
            Source::Output => self.output = true,
            Source::Notify => self.notify = true,
            Source::Violation => self.violation = true,
            Source::Memory => self.memory = true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reaped {
    SomeLive,
    NoneLeft,
}

fn timeout_until(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    // Rounded up, so that the deadline has passed when poll returns.
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
    PollTimeout::try_from(left.min(3_600_000) as i32).unwrap_or(PollTimeout::ZERO)
}
