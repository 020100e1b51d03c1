//! The kernel's log, read from where it was opened on.
//!
//! Opened by the launcher, which may; read by one init, with a place of its own in it. Nothing here waits: the kernel's lines on a kill are in
//! the log before the victim has ended (`__oom_kill_process` holds `task_lock` meanwhile, which `exit_mm` takes).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::KillBook;
use super::record::parse;

/// More than any record has (CONSOLE_EXT_LOG_MAX).
const RECORD: usize = 16 * 1024;
/// Most records that are read at one time: more than a log of 1 MiB holds.
const MAX_RECORDS: usize = 32 * 1024;
/// Number of the first pid namespace's file (PROC_PID_INIT_INO in the kernel's proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The log from here on.
#[derive(Debug)]
pub(crate) struct KernelLog(OwnedFd);

impl KernelLog {
    /// Opens it at its end.
    ///
    /// Errors: open(2) of `/dev/kmsg`; `Unsupported` in a pid namespace of its own, where the log's numbers mean other processes.
    pub(crate) fn open() -> io::Result<Self> {
        if !std::fs::metadata("/proc/self/ns/pid").is_ok_and(|ns| ns.ino() == FIRST_PID_NAMESPACE) {
            let why = "this is not the host's pid namespace: its numbers in the kernel's log would be others'";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let fd = rustix::fs::open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::seek(&fd, SeekFrom::End(0))?;
        Ok(Self(fd))
    }

    /// Hands all that was logged since the last time to `book`, and tells it where something is missing.
    pub(crate) fn read_into(&self, book: &mut KillBook) {
        let mut buffer = vec![0; RECORD];
        for _ in 0..MAX_RECORDS {
            match rustix::io::read(&self.0, &mut buffer[..]) {
                Ok(0) => return,
                Ok(length) => {
                    if let Some(said) = parse(&buffer[..length]) {
                        book.note(said);
                    }
                }
                // Overrun: the next read gives the oldest that is left.
                Err(Errno::PIPE) => book.miss(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => return book.miss(),
            }
        }
        book.miss();
    }
}

impl From<KernelLog> for OwnedFd {
    fn from(log: KernelLog) -> Self {
        log.0
    }
}

impl AsRawFd for KernelLog {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
