//! Asking the helper, with a deadline.
//!
//! Owns the helper's life: whatever happens it is killed, and waited for within a bound. Must never start a thread: the hive asks before
//! it drops its privileges, and a thread that stays behind with a hung helper would keep them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Answer;

/// Longest answer, bytes.
const MAX_ANSWER: usize = 1 << 20;
/// How long a helper that was killed may take to be gone; one that hangs in the kernel takes for ever.
const REAP: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::inventory) enum AskError {
    /// No command.
    #[error("the helper's command is empty")]
    Empty,
    /// It can't be started.
    #[error("start the helper {program:?}")]
    Start {
        program: OsString,
        #[source]
        source: io::Error,
    },
    /// Its answer can't be read.
    #[error("read the helper's answer")]
    Read(#[source] io::Error),
    /// The deadline has passed.
    #[error("the helper did not answer within {} ms and was killed: the driver may hang", .0.as_millis())]
    Late(Duration),
    /// More than [`MAX_ANSWER`].
    #[error("the helper's answer is longer than {MAX_ANSWER} bytes")]
    Long,
    /// It is not what a helper prints.
    #[error("understand the helper's answer ({})", end.map_or_else(|| "it has not ended".to_owned(), |e| e.to_string()))]
    Unclear {
        end: Option<ExitStatus>,
        #[source]
        source: serde_json::Error,
    },
}

/// Runs `helper` and reads its answer, at most for `deadline`.
pub(in crate::inventory) fn ask(helper: &[OsString], deadline: Duration) -> Result<Answer, AskError> {
    let mut child = start(helper)?;
    let answer = read_until(&mut child, deadline);
    let end = end(&mut child, answer.is_ok());
    serde_json::from_slice(&answer?).map_err(|source| AskError::Unclear { end, source })
}

fn start(helper: &[OsString]) -> Result<Child, AskError> {
    let (program, arguments) = helper.split_first().ok_or(AskError::Empty)?;
    let command = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    command.map_err(|source| AskError::Start { program: program.clone(), source })
}

/// Everything that the helper prints until it closes its standard output.
fn read_until(child: &mut Child, deadline: Duration) -> Result<Vec<u8>, AskError> {
    let until = Instant::now() + deadline;
    let out = child.stdout.take().ok_or_else(|| AskError::Read(io::ErrorKind::BrokenPipe.into()))?;
    let mut out = File::from(OwnedFd::from(out));
    let (mut answer, mut chunk) = (Vec::new(), [0; 16 << 10]);
    loop {
        if !readable(out.as_fd(), until).map_err(AskError::Read)? {
            return Err(AskError::Late(deadline));
        }
        match out.read(&mut chunk) {
            Ok(0) => return Ok(answer),
            Ok(n) if answer.len() + n > MAX_ANSWER => return Err(AskError::Long),
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(AskError::Read(e)),
        }
    }
}

/// Waits until `fd` has something, or its other end is closed, or `until` has passed (false).
fn readable(fd: BorrowedFd<'_>, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Ends the helper, by itself if it `has_answered`; `None` where it hangs in the kernel, which nobody waits for.
fn end(child: &mut Child, has_answered: bool) -> Option<ExitStatus> {
    let gone = |child: &mut Child| {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let until = Instant::now() + REAP;
        readable(pidfd.as_fd(), until).ok()?.then(|| child.try_wait().ok()).flatten()?
    };
    // It was not waited for, so that the number still is its own.
    if let (true, Some(end)) = (has_answered, gone(child)) {
        return Some(end);
    }
    let _ = child.kill();
    gone(child)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn shell(script: &str) -> Vec<OsString> {
        ["sh", "-c", script].map(OsString::from).to_vec()
    }

    #[test]
    fn an_answer_is_read() {
        let answer = ask(
            &shell(r#"echo '{"gpus":[{"minor":1,"uuid":"GPU-a","name":null,"memory_bytes":5}],"failed":["x"]}'"#),
            Duration::from_secs(20),
        );
        let answer = answer.unwrap();
        assert_eq!((answer.gpus[0].memory_bytes, answer.failed[0].as_str()), (Some(5), "x"));
    }

    #[test]
    fn a_helper_that_hangs_is_killed_and_reaped_at_the_deadline() {
        let mut child = start(&shell("exec sleep 60")).unwrap();
        let started = Instant::now();
        assert!(matches!(read_until(&mut child, Duration::from_millis(50)), Err(AskError::Late(_))));
        assert!(child.try_wait().unwrap().is_none(), "it was to hang");
        assert_eq!(end(&mut child, false).and_then(|e| e.signal()), Some(9));
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_helper_that_answers_and_stays_is_ended_too() {
        let mut child = start(&shell("exec >&-; exec sleep 60")).unwrap();
        assert!(read_until(&mut child, Duration::from_secs(20)).unwrap().is_empty());
        assert_eq!(end(&mut child, true).and_then(|e| e.signal()), Some(9));
    }

    #[test]
    fn a_helper_that_dies_without_an_answer_is_told_by_its_end() {
        let error = ask(&shell("exit 3"), Duration::from_secs(20)).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_helper_that_prints_without_end_is_cut_off() {
        assert!(matches!(ask(&shell("exec cat /dev/zero"), Duration::from_secs(20)), Err(AskError::Long)));
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let error = ask(&["/no/such/helper".into()], Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("/no/such/helper"), "{error}");
        assert!(matches!(ask(&[], Duration::from_secs(1)), Err(AskError::Empty)));
    }
}
