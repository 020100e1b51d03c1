//! The channel by which a worker process tells its init how far it came.
//!
//! ```text
//!  failure of a step                → the failure, end
//!  "e" just before execve           → end (close-on-exec): executed
//!   with the seccomp filter's listener where there is one
//!                                   → the failure, end: execve failed
//!  end without a word               → killed on the way (a memory limit too small to start with)
//! ```
//! A socket pair and not a pipe, for the listener's sake. What is said after the filter is loaded needs sendmsg(2) alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rbee_hive_sys::scm;
use serde::{Deserialize, Serialize};

use crate::SetupFailure;
use crate::step::{CallError, failed};

/// Largest message; the writer is our own code, but a bound costs nothing.
const MAX_MESSAGE: usize = 64 * 1024;
/// Said just before `execve`. No JSON text begins with it.
const ABOUT_TO_EXECUTE: u8 = b'e';

/// What the worker process came to.
#[derive(Debug)]
pub(super) enum WorkerReport {
    /// `execve` succeeded.
    Executed {
        /// Where the seccomp filter's notifications come.
        listener: Option<OwnedFd>,
    },
    /// It ended before it came to `execve`, and could not say why.
    Died,
    /// It said why.
    Failed(Failure),
}

/// One word of the report.
pub(super) enum Said {
    /// The end.
    Nothing,
    /// All steps are done.
    AboutToExecute {
        /// Where the seccomp filter's notifications come.
        listener: Option<OwnedFd>,
    },
    /// Something failed.
    Failed(Failure),
}

/// Why nothing was executed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    /// A step failed.
    Setup(SetupFailure),
    /// `execve` failed.
    Exec { errno: i32, message: String },
}

pub(super) struct ReportReader(OwnedFd);
pub(super) struct ReportWriter(OwnedFd);

pub(super) fn channel() -> Result<(ReportReader, ReportWriter), CallError> {
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (read, write) = pair.map_err(failed(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)".into()))?;
    let write = rbee_hive_sys::fds::above_stdio(write).map_err(failed(|| "fcntl(F_DUPFD)".into()))?;
    Ok((ReportReader(read), ReportWriter(write)))
}

impl ReportReader {
    /// Waits for the end of what there is to say.
    pub(super) fn read(self) -> io::Result<WorkerReport> {
        let mut report = WorkerReport::Died;
        loop {
            report = match self.next()? {
                Said::Nothing => return Ok(report),
                Said::AboutToExecute { listener } => WorkerReport::Executed { listener },
                Said::Failed(failure) => return Ok(WorkerReport::Failed(failure)),
            };
        }
    }

    /// Waits for one word.
    pub(super) fn next(&self) -> io::Result<Said> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, mut fds) = scm::recv(self.0.as_fd(), &mut buffer, 1)?;
        match &buffer[..length] {
            [] => Ok(Said::Nothing),
            [ABOUT_TO_EXECUTE] => Ok(Said::AboutToExecute { listener: fds.pop() }),
            text => serde_json::from_slice(text).map(Said::Failed).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
        }
    }
}

impl AsFd for ReportReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ReportWriter {
    /// Tells the init that all steps are done: from here on silence is success.
    pub(super) fn about_to_execute(&self, listener: Option<BorrowedFd<'_>>) -> io::Result<()> {
        scm::send(self.0.as_fd(), &[ABOUT_TO_EXECUTE], listener.as_slice())
    }

    /// Tells the init; the process ends right after, so a failed send has nobody to tell.
    pub(super) fn tell(&self, failure: &Failure) {
        if let Ok(text) = serde_json::to_vec(failure) {
            let _ = scm::send(self.0.as_fd(), &text[..text.len().min(MAX_MESSAGE)], &[]);
        }
    }
}
