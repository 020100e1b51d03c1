//! The worker's output as CRI log lines (`<rfc3339nano> stdout F text`), in two files of bounded size.
//!
//! Memory is one block and one unfinished line a stream; disk is [`FILE_MAX`] twice. A worker that prints for ever fills neither.

mod file;
mod lines;

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use jiff::Timestamp;

pub(super) use file::LogFile;
use lines::Lines;

/// Size at which `log` becomes `log.1`, bytes.
pub(super) const FILE_MAX: u64 = 8 * 1024 * 1024;
/// Read at once, bytes: a pipe's default capacity.
const BLOCK: usize = 64 * 1024;

/// One output stream of the worker.
pub(super) struct Stream {
    pipe: std::fs::File,
    lines: Lines,
}

/// Whether a stream can give more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Some was read; there may be more.
    Some,
    /// Nothing to read now.
    Empty,
    /// Every writer is gone.
    Ended,
}

impl Stream {
    pub(super) fn new(pipe: OwnedFd, name: &'static str) -> Self {
        Self { pipe: pipe.into(), lines: Lines::new(name) }
    }

    /// Moves one block from the pipe to the log. A log that can't be written (a full disk) loses lines and never blocks the worker.
    /// Without a log the block is thrown away, for the same reason.
    pub(super) fn pump(&mut self, log: Option<&mut LogFile>) -> Pumped {
        let mut block = [0u8; BLOCK];
        match self.pipe.read(&mut block) {
            Ok(0) => {
                if let Some(log) = log {
                    log.append(&self.lines.finish(&now()));
                }
                Pumped::Ended
            }
            Ok(len) => {
                if let Some(log) = log {
                    log.append(&self.lines.push(&block[..len], &now()));
                }
                Pumped::Some
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Pumped::Some,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Pumped::Empty,
            Err(_) => Pumped::Ended,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

fn now() -> String {
    format!("{:.9}", Timestamp::now())
}
