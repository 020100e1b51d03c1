//! `log` and `log.1` in the worker's log directory.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;

use super::FILE_MAX;

/// Most that is written in a span, bytes: 32 MiB/s. Neither the disk nor the init's CPU time is charged to the worker, and a line that holds
/// nothing takes 45 bytes here. Who prints more waits.
const MOST: u64 = 16 * 1024 * 1024;
const SPAN: Duration = Duration::from_millis(500);

/// The log being written.
pub(crate) struct LogFile {
    directory: OwnedFd,
    file: Option<File>,
    size: u64,
    /// Written since the span's beginning.
    written: u64,
    span_ends: Instant,
}

impl LogFile {
    /// Opens `log` in `directory` for appending. The directory's set-group-ID bit gives it to the group that may read it: an init has no
    /// CAP_CHOWN any more.
    pub(crate) fn open(directory: OwnedFd) -> io::Result<Self> {
        let mut log = Self { directory, file: None, size: 0, written: 0, span_ends: Instant::now() + SPAN };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.directory, "log", flags, Mode::from_bits_truncate(0o640))?;
        let file = File::from(fd);
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// When there is room again; `None` while there is.
    pub(crate) fn full_until(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if now >= self.span_ends {
            (self.written, self.span_ends) = (0, now + SPAN);
        }
        (self.written >= MOST).then_some(self.span_ends)
    }

    /// Appends whole lines. What can't be written is lost: blocking the worker on a full disk would be worse.
    pub(crate) fn append(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        self.written += lines.len() as u64;
        if self.size >= FILE_MAX {
            let _ = self.rotate();
        }
        if let Some(file) = &mut self.file
            && file.write_all(lines).is_ok()
        {
            self.size += lines.len() as u64;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        renameat(&self.directory, "log", &self.directory, "log.1")?;
        self.reopen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_takes_so_much_and_the_next_one_takes_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(std::fs::File::open(dir.path()).unwrap().into()).unwrap();
        // A span that ends for no machine while it writes.
        let ends = Instant::now() + Duration::from_secs(3600);
        log.span_ends = ends;
        log.append(&vec![b'x'; MOST as usize - 1]);
        assert_eq!(log.full_until(), None);
        log.append(b"x");
        assert_eq!(log.full_until(), Some(ends));
        log.span_ends = Instant::now();
        assert_eq!(log.full_until(), None);
    }

    #[test]
    fn two_files_hold_at_most_twice_the_cap() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(std::fs::File::open(dir.path()).unwrap().into()).unwrap();
        let block = vec![b'x'; 100_000];
        for _ in 0..400 {
            log.append(&block);
        }
        let sizes: Vec<u64> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2, "log and log.1");
        assert!(sizes.iter().sum::<u64>() <= 2 * (FILE_MAX + 100_000));
    }
}
