//! One process's directory in `/proc`, held open: what is read is all of one process, even if its number is used again meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, openat, readlinkat};

use crate::protocol::{Namespaces, Rlimit};

/// Longest content that is read of one file, bytes: a mount table of some thousand lines.
const MAX_CONTENT: usize = 1 << 20;
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// `/proc/<pid>`
pub(super) struct Process(OwnedFd);

impl Process {
    /// Errors: `ENOENT` where there is no such process, or none that may be seen.
    pub(super) fn open(pid: &str) -> io::Result<Self> {
        let path = Path::new("/proc").join(pid);
        Ok(Self(open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// A file's whole content.
    ///
    /// Errors: `ESRCH` or `ENOENT` once the process has ended, `FileTooLarge` beyond 1 MiB.
    pub(super) fn read(&self, name: &str) -> io::Result<String> {
        let file = openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::with_capacity(4096);
        let mut chunk = [0u8; 16 * 1024];
        loop {
            match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut chunk))? {
                0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                n if bytes.len() + n > MAX_CONTENT => return Err(io::ErrorKind::FileTooLarge.into()),
                n => bytes.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Where a link leads, as text.
    pub(super) fn link(&self, name: &str) -> io::Result<String> {
        Ok(readlinkat(&self.0, name, Vec::new())?.to_string_lossy().into_owned())
    }

    /// Its namespaces; those that this kernel does not have are left out.
    ///
    /// Errors: `EACCES` where they may not be looked at; `NotFound` where there is none at all: it has ended, or hidepid keeps it from us.
    pub(super) fn namespaces(&self) -> io::Result<Namespaces> {
        let mut found = Namespaces::new();
        for kind in NAMESPACES {
            match self.link(&format!("ns/{kind}")) {
                Ok(text) => found.extend(namespace(&text)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }

    /// Whether it runs; a zombie holds nothing any more.
    pub(super) fn lives(&self) -> bool {
        self.read("stat").ok().and_then(|text| stat(&text)).is_some_and(|(_, state, _)| !matches!(state, 'Z' | 'X'))
    }

    /// A path to one of its files, for calls that take no directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }

    /// The names in one of its directories.
    pub(super) fn list(&self, name: &str) -> io::Result<Vec<String>> {
        let directory = openat(&self.0, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let entries = rustix::fs::Dir::read_from(&directory)?;
        let names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        Ok(names.filter(|n| n != "." && n != "..").collect())
    }
}

/// Kind and number of `net:[4026531840]`.
pub(super) fn namespace(text: &str) -> Option<(String, u64)> {
    let (kind, rest) = text.split_once(":[")?;
    Some((kind.to_owned(), rest.strip_suffix(']')?.parse().ok()?))
}

/// Name, state and start time of `/proc/<pid>/stat`. The name may hold anything, parentheses too: the last one ends it.
pub(super) fn stat(text: &str) -> Option<(String, char, u64)> {
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // proc_pid_stat(5): the state is the third field, the start time the 22nd.
    Some((name.to_owned(), state, fields.nth(18)?.parse().ok()?))
}

/// `/proc/<pid>/limits` by name.
pub(super) fn limits(text: &str) -> BTreeMap<String, Rlimit> {
    let line = |line: &str| {
        let name = line.get(..26)?.trim_end();
        let mut values = line.get(26..)?.split_ascii_whitespace().map(|v| match v {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        });
        Some((name.to_owned(), Rlimit { soft: values.next()??, hard: values.next()?? }))
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_fields_after_it() {
        let text = format!("7 (a) S 1 (b) R 1{} 4242 1 2", " 0".repeat(17));
        assert_eq!(stat(&text), Some(("a) S 1 (b".into(), 'R', 4242)));
        assert_eq!(stat("7 (a"), None);
    }

    #[test]
    fn limits_are_read_by_column() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            1024                 4096                 files     \n\
                    Max nice priority         0                    0                    \n";
        let limits = limits(text);
        assert_eq!(limits["Max open files"], Rlimit { soft: Some(1024), hard: Some(4096) });
        assert_eq!(limits["Max cpu time"], Rlimit { soft: None, hard: None });
        assert_eq!(limits.len(), 3);
    }

    #[test]
    fn this_process_has_its_limits_and_namespaces() {
        let own = Process::open("self").unwrap();
        assert!(limits(&own.read("limits").unwrap()).len() > 10);
        let namespaces = own.namespaces().unwrap();
        assert!(namespaces.contains_key("mnt") && namespaces.contains_key("net"), "{namespaces:?}");
        assert_eq!(namespace("net:[4026531840]"), Some(("net".into(), 4_026_531_840)));
    }
}
