//! The worker's init: PID 1 of the sandbox, from its birth to its verdict.
//!
//! ```text
//!  born ──INIT_STEPS──► root is made ──clone3──► worker (WORKER_STEPS, execve)
//!    │                                             │ report: silence on exec, a failure otherwise
//!    └── SetupFailed / ExecFailed / Started ──► hive;  then supervise until the worker ends: Ended, verdict.json
//! ```
//! A single-threaded copy of the launcher, so it may allocate. It must never take a command from anywhere but its channel.

mod context;
mod drop_privileges;
mod host_path;
mod logs;
mod oom;
mod record;
mod report;
mod root;
pub(crate) mod steps;
mod supervise;
mod user_namespace;
mod watch;
mod worker;

use std::os::fd::OwnedFd;

pub(crate) use context::{InitContext, Stdio};
pub(crate) use oom::{HostNumbers, OomContext};
use rbee_hive_sys::clone::{Cloned, Namespaces, SingleThreaded, clone_process, exit_now};
pub(crate) use record::write_whole;
pub(crate) use worker::{bounds, leave_real_time, resource};

use crate::init::report::{Failure, ReportReader, WorkerReport};
use crate::protocol::{FromInit, Made};
use crate::step::{CallError, carry_out, failed};
use crate::{SetupFailure, Verdict};

/// Exit status of an init that made no sandbox.
const NOT_MADE: i32 = 125;

/// Runs as the init. Never returns: what the parent's stack owns must not be dropped here.
pub(crate) fn main(mut context: InitContext, proof: &SingleThreaded) -> ! {
    let code = match bring_up(&mut context, proof) {
        Ok(worker) => supervise::run(context, worker),
        Err(failure) => {
            failure.tell(&context);
            NOT_MADE
        }
    };
    exit_now(code)
}

/// A worker that has been executed.
pub(crate) struct Running {
    pub(crate) pid: i32,
    /// Its number as the host sees it.
    pub(crate) host_pid: Option<i32>,
    pub(crate) outputs: Option<[OwnedFd; 2]>,
    pub(crate) made: Made,
}

enum NotMade {
    Setup(SetupFailure),
    Exec { errno: i32, message: String },
}

impl NotMade {
    fn tell(self, context: &InitContext) {
        let (message, verdict) = match self {
            Self::Setup(failure) => (FromInit::SetupFailed(failure.clone()), Verdict::SetupFailed(failure)),
            Self::Exec { errno, message } => {
                (FromInit::ExecFailed { errno, message: message.clone() }, Verdict::ExecFailed { errno, message })
            }
        };
        // Nobody is left to tell where these fail: the hive sees the channel's end and this process's exit status.
        let _ = context.control.send(&message, &[]);
        let _ = record::write_verdict(context, &verdict, &crate::protocol::Resources::default());
    }
}

fn bring_up(context: &mut InitContext, proof: &SingleThreaded) -> Result<Running, NotMade> {
    carry_out(steps::INIT_STEPS, context).map_err(NotMade::Setup)?;
    let running = start_worker(context, proof)?;
    drop_privileges::keep_what_an_init_needs(&context.plan).map_err(|e| NotMade::Setup(SetupFailure::of("drop init privileges", e)))?;
    Ok(running)
}

fn start_worker(context: &mut InitContext, proof: &SingleThreaded) -> Result<Running, NotMade> {
    let setup = |e: CallError| NotMade::Setup(SetupFailure::of("start worker process", e));
    let (reader, writer) = report::channel().map_err(setup)?;
    context.mapping = user_namespace::Mapping::of(&context.plan).map_err(setup)?;
    let cgroup = context.leaves.worker_v2_fd();
    match clone_process(proof, Namespaces::NONE, cgroup).map_err(failed(|| "clone3(CLONE_INTO_CGROUP)".into())).map_err(setup)? {
        Cloned::Child => {
            drop(reader);
            worker::main(context, writer)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(writer);
            let host_pid = context.host_numbers.take().and_then(|numbers| numbers.of(&pidfd));
            oom::spare_the_init();
            let outputs = context.close_worker_ends();
            if let Some(mapping) = context.mapping.take() {
                mapping.serve(&context.plan, pid).map_err(setup)?;
            }
            let report = match &context.plan.watch {
                Some(_) => watch::until_executed(&reader).map_err(setup)?,
                None => reader.wait().map_err(setup)?,
            };
            match report {
                WorkerReport::Executed { listener } => context.listener = listener,
                WorkerReport::Died => return Err(NotMade::Setup(died_on_the_way(context))),
                WorkerReport::Failed(Failure::Setup(failure)) => return Err(NotMade::Setup(failure)),
                WorkerReport::Failed(Failure::Exec { errno, message }) => return Err(NotMade::Exec { errno, message }),
            }
            steps::lifetime::outlive_the_launcher().map_err(setup)?;
            let start_ticks = procfs::process::Process::new(pid).and_then(|p| p.stat()).map(|s| s.starttime).ok();
            use std::os::fd::AsFd;
            // A hive that is gone already is noticed by the supervision, which knows what the policy says about that.
            let _ = context.control.send(&FromInit::Started { start_ticks }, &[pidfd.as_fd()]);
            let loaded = context.filters.as_ref().map_or(0, |f| f.refusing.len() + 1);
            Ok(Running { pid, host_pid, outputs, made: crate::verify::read::inside::made(pid, loaded) })
        }
    }
}

/// The worker process was killed before its program: with a memory limit that is all it takes.
fn died_on_the_way(context: &InitContext) -> SetupFailure {
    let oom = context.leaves.worker_leaf().resources().oom_kills.is_some_and(|n| n > 0);
    let (errno, hint) = if oom {
        (libc::ENOMEM, "memory_max is too small to start anything: raise it")
    } else {
        (libc::EINTR, "somebody killed it, or a limit is too small to start with")
    };
    let call = "run the worker process up to execve";
    SetupFailure::of("start worker process", CallError::new(call, std::io::Error::from_raw_os_error(errno)).hint(hint))
}

impl ReportReader {
    fn wait(self) -> Result<WorkerReport, CallError> {
        self.read().map_err(failed(|| "recvmsg(report)".into()))
    }
}
