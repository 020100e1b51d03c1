//! The worker process between its birth in its cgroup and its `execve`.

mod credentials;
mod executable;
mod filter;
mod landlock;
mod limits;
mod scheduling;
mod session;
mod streams;

pub(super) use executable::candidates;

use std::io;
use std::os::fd::AsFd;

pub(crate) use limits::{bounds, resource};
pub(crate) use scheduling::leave_real_time;

use rbee_hive_sys::clone::exit_now;

use super::InitContext;
use super::report::{Failure, ReportWriter};
use crate::step::{CallError, Step, carry_out, failed};

/// What a worker process does before its program.
pub(super) const WORKER_STEPS: &[Step<InitContext>] = &[
    Step { name: "join worker cgroup", run: limits::join_cgroup },
    Step { name: "unshare cgroup namespace", run: limits::unshare_cgroup },
    Step { name: "start a session", run: session::run },
    Step { name: "reset signals", run: session::reset_signals },
    Step { name: "set resource limits", run: limits::run },
    Step { name: "set scheduling", run: scheduling::run },
    Step { name: "install standard streams", run: streams::run },
    Step { name: "drop privileges", run: credentials::run },
    Step { name: "enter working directory", run: enter_directory },
    Step { name: "enter Landlock domain", run: landlock::run },
    Step { name: "close descriptors", run: close_descriptors },
    Step { name: "load seccomp filters", run: filter::run },
];

/// Runs as the worker process. Never returns.
pub(super) fn main(context: &mut InitContext, report: ReportWriter) -> ! {
    if let Err(failure) = carry_out(WORKER_STEPS, context) {
        report.tell(&Failure::Setup(failure));
        exit_now(125)
    }
    let error = match report.about_to_execute(context.listener.as_ref().map(AsFd::as_fd)) {
        Ok(()) => executable::execute(&context.plan),
        Err(e) => e,
    };
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    report.tell(&Failure::Exec { errno, message: explain(&context.plan.executable.to_string_lossy(), &error) });
    exit_now(if errno == libc::ENOENT { 127 } else { 126 })
}

fn explain(path: &str, error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::ENOEXEC) => "it is no program for this machine (wrong architecture, or a script without #!)".to_owned(),
        Some(libc::ENOENT) => "it, or the interpreter that it names, is not there inside the sandbox".to_owned(),
        Some(libc::EACCES) => "the worker's user may not execute it (chmod +x, or the mount is noexec)".to_owned(),
        _ => error.to_string(),
    };
    format!("execve({path:?}) failed: {why}")
}

/// At `execve`, not now: the report goes on until then.
fn close_descriptors(_: &mut InitContext) -> Result<(), CallError> {
    rbee_hive_sys::fds::cloexec_from_3().map_err(failed(|| "close_range(3, CLOSE_RANGE_CLOEXEC)".into()))
}

fn enter_directory(context: &mut InitContext) -> Result<(), CallError> {
    let path = &context.plan.cwd;
    nix::unistd::chdir(path).map_err(failed(|| format!("chdir({path:?})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_is_limited_before_it_is_anything_else_and_unprivileged_last() {
        let names: Vec<_> = WORKER_STEPS.iter().map(|s| s.name).collect();
        let at = |name: &str| names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("no step {name:?}"));
        assert_eq!(at("join worker cgroup"), 0);
        assert!(at("join worker cgroup") < at("unshare cgroup namespace"), "its root must be the worker's own leaf");
        assert!(at("set resource limits") < at("drop privileges"), "raising a hard limit needs privileges");
        assert!(at("drop privileges") < at("enter working directory"), "the directory is entered as who the worker is");
        assert!(at("drop privileges") < at("enter Landlock domain"), "it needs no_new_privs");
        assert_eq!(at("load seccomp filters"), names.len() - 1, "what comes after it needs the profile's leave");
    }
}
