//! A process that was killed and is still there, and where in the kernel it waits.
//!
//! Owns the reading of `comm`, `wchan` and `syscall` (proc(5)), none of which waits for the process. Must never know why it was killed.

use std::io::Read as _;
use std::path::Path;

use rbee_hive_policy::call_name;
use serde::{Deserialize, Serialize};

/// Most of a file that is read; what is told is a word of it.
const MAX_TEXT: u64 = 256;

/// A process that does not die. What could not be read is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckProcess {
    /// Its number as the host sees it; in a message of an init, as that sees it.
    pub pid: Option<i32>,
    /// `comm`.
    pub name: Option<String>,
    /// The kernel's function in which it waits.
    #[serde(default)]
    pub wchan: Option<String>,
    /// The system call that it is in.
    #[serde(default)]
    pub syscall: Option<String>,
}

impl StuckProcess {
    /// What `proc`, a mounted procfs, tells of `pid` to who asks.
    pub fn read(proc: &Path, pid: i32) -> Self {
        let text = |file: &str| word(&proc.join(pid.to_string()).join(file));
        let name = text("comm");
        // `0`: it runs, or the kernel does not say it to us.
        let wchan = text("wchan").filter(|at| at != "0");
        Self { pid: Some(pid), name, wchan, syscall: text("syscall").as_deref().and_then(call) }
    }

    /// `llama-server (pid 7) in nfs_wait_bit_killable`
    pub fn sentence(&self) -> String {
        let name = self.name.as_deref().unwrap_or("a process");
        let pid = self.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        let place = self.wchan.as_deref().map_or_else(String::new, |at| format!(" in {at}"));
        let call = self.syscall.as_deref().map_or_else(String::new, |call| format!(", called by {call}"));
        format!("{name}{pid}{place}{call}")
    }
}

/// The first line, in words that a terminal can show.
fn word(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_TEXT).read_to_end(&mut text).ok()?;
    let line = String::from_utf8_lossy(&text);
    let clean: String = line.lines().next()?.chars().filter(|c| !c.is_control()).collect();
    (!clean.is_empty()).then_some(clean)
}

/// From `0 0x3 …`, `running`, or `-1 …` where it is in no call.
fn call(line: &str) -> Option<String> {
    let number: i64 = line.split(' ').next()?.parse().ok()?;
    (number >= 0).then(|| call_name(number).map_or_else(|| format!("system call {number}"), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> StuckProcess {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("7")).unwrap();
        for (name, text) in files {
            std::fs::write(proc.path().join("7").join(name), text).unwrap();
        }
        StuckProcess::read(proc.path(), 7)
    }

    #[test]
    fn where_it_waits_is_told_by_function_and_call() {
        let read =
            read(&[("comm", "llama\u{1b}-server\n"), ("wchan", "folio_wait_bit"), ("syscall", "0 0x3 0x7f 0x0 0x0 0x0 0x0 0x1 0x2")]);
        assert_eq!(read.sentence(), "llama-server (pid 7) in folio_wait_bit, called by read");
        assert_eq!(serde_json::from_value::<StuckProcess>(serde_json::to_value(&read).unwrap()).unwrap(), read);
    }

    #[test]
    fn what_the_kernel_does_not_say_is_none() {
        let none = StuckProcess { pid: Some(7), ..StuckProcess::default() };
        assert_eq!(read(&[]), none);
        for syscall in ["running\n", "-1 0x7ffc 0x7f", ""] {
            assert_eq!(read(&[("wchan", "0"), ("comm", ""), ("syscall", syscall)]), none, "{syscall:?}");
        }
        assert_eq!(none.sentence(), "a process (pid 7)");
    }
}
