//! The kernel's log as it grows: `/dev/kmsg`, kept open since there were privileges to open it.
//!
//! Must never know what a line means.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use rustix::fs::OFlags;

/// Longest record, bytes (`PRINTK_MESSAGE_MAX` with its prefix is below this).
const RECORD: usize = 8192;
/// Records that one reading takes: the rest is for the next.
const MAX_RECORDS: usize = 4096;

/// Number of the first pid namespace's file (`PROC_PID_INIT_INO` in the kernel's proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// An open log.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// From its present end on: what was logged before is no news. `None` where the log can't be read (in most containers), and in a pid
    /// namespace of its own, where the log's numbers mean other processes.
    pub fn open() -> Option<Self> {
        std::fs::metadata("/proc/self/ns/pid").ok().filter(|ns| ns.ino() == FIRST_PID_NAMESPACE)?;
        let mut file =
            File::options().read(true).custom_flags((OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed()).open("/dev/kmsg").ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(Self(file))
    }

    /// The records since last time, one a line. Never waits.
    pub fn new_lines(&mut self) -> String {
        let (mut text, mut record) = (String::new(), vec![0; RECORD]);
        for _ in 0..MAX_RECORDS {
            match self.0.read(&mut record) {
                Ok(0) => break,
                // A record is a line, and lines of properties that begin with a blank.
                Ok(n) => text.extend(String::from_utf8_lossy(&record[..n]).lines().next().map(|line| format!("{line}\n"))),
                // Records were overwritten before they were read; the next reading goes on with the oldest that is left (kernel's
                // Documentation/ABI/testing/dev-kmsg).
                Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
                Err(_) => break,
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_a_log_that_has_nothing_new_does_not_wait() {
        if let Some(mut log) = KernelLog::open() {
            let _ = log.new_lines();
            assert!(log.new_lines().lines().count() <= MAX_RECORDS);
        }
    }

    #[test]
    fn a_file_stands_for_the_log_and_what_was_read_is_not_read_again() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"4,1,2,-;NVRM: Xid (PCI:0000:01:00): 79\n SUBSYSTEM=pci\n").unwrap();
        file.rewind().unwrap();
        let mut log = KernelLog(file);
        assert_eq!(log.new_lines(), "4,1,2,-;NVRM: Xid (PCI:0000:01:00): 79\n");
        assert_eq!(log.new_lines(), "");
    }
}
