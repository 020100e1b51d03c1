//! Asking helper processes, one for each GPU, with one deadline for all.
//!
//! Owns the helpers' lives: whatever happens they are killed, and waited for within a bound; one that hangs in the kernel even then is
//! handed back, so that somebody counts it. Must never start a thread: the hive asks before it drops its privileges, and a thread that
//! stays behind with a hung helper would keep them.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::de::DeserializeOwned;

/// Longest answer, bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Helpers that run at one time.
const AT_ONCE: usize = 16;
/// How long helpers that were killed may take to be gone; one that hangs in the kernel takes for ever.
const REAP: Duration = Duration::from_secs(1);

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
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
    #[error("the driver did not answer within {} ms, and the helper that asked it was killed: it may hang", .0.as_millis())]
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
    /// It ended before it said anything.
    #[error("the helper said nothing ({})", end.map_or_else(|| "it has not ended".to_owned(), |e| e.to_string()))]
    Nothing { end: Option<ExitStatus> },
}

/// What came of one question.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    /// The lines that it printed, each a JSON value, until it ended or something went wrong.
    pub(crate) lines: Vec<T>,
    /// What went wrong.
    pub(crate) trouble: Option<AskError>,
    /// The helper, where it did not even end when it was killed.
    pub(crate) left: Option<Child>,
}

/// Asks each of `questions` by a process of its own, `helper` with the question as further arguments, and waits at most for `deadline`
/// for every [`AT_ONCE`] of them. The answers are in the questions' order.
pub(crate) fn ask_each<T: DeserializeOwned>(helper: &[OsString], questions: &[Vec<OsString>], deadline: Duration) -> Vec<Answer<T>> {
    questions.chunks(AT_ONCE).flat_map(|some| ask_some(helper, some, deadline)).collect()
}

fn ask_some<T: DeserializeOwned>(helper: &[OsString], questions: &[Vec<OsString>], deadline: Duration) -> Vec<Answer<T>> {
    let until = Instant::now() + deadline;
    let mut asked: Vec<Asked> = questions.iter().map(|question| Asked::start(helper, question)).collect();
    for one in &mut asked {
        // What the others have said waits in their pipes, also where this one takes all of the time.
        if let Some(child) = &mut one.child
            && let Err(why) = read_until(child, (until, deadline), &mut one.text)
        {
            one.give_up(why);
        }
    }
    let until = Instant::now() + REAP;
    asked.into_iter().map(|one| one.finish(until)).collect()
}

/// A question that nobody waits for: looked at now and then until it is answered, or its deadline has passed.
#[derive(Debug)]
pub(crate) struct Aside {
    asked: Option<Asked>,
    until: Instant,
    deadline: Duration,
}

impl Aside {
    /// Puts the question.
    pub(crate) fn ask(helper: &[OsString], question: &[OsString], deadline: Duration) -> Self {
        Self { asked: Some(Asked::start(helper, question)), until: Instant::now() + deadline, deadline }
    }

    /// The answer, once; `None` while there is none yet.
    pub(crate) fn answer<T: DeserializeOwned>(&mut self) -> Option<Answer<T>> {
        let now = Instant::now();
        let one = self.asked.as_mut()?;
        if let Some(child) = &mut one.child {
            match read_until(child, (now, self.deadline), &mut one.text) {
                Err(AskError::Late(_)) if now < self.until => return None,
                Ok(()) => {}
                Err(why) => one.give_up(why),
            }
        }
        self.asked.take().map(|one| one.finish(now))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(mut child) = self.asked.take().and_then(|one| one.child) {
            let _ = child.kill();
            let _ = child.try_wait();
        }
    }
}

/// A question that was put.
#[derive(Debug)]
struct Asked {
    child: Option<Child>,
    text: Vec<u8>,
    trouble: Option<AskError>,
}

impl Asked {
    fn start(helper: &[OsString], question: &[OsString]) -> Self {
        let (child, trouble) = match start(helper, question) {
            Ok(child) => (Some(child), None),
            Err(why) => (None, Some(why)),
        };
        Self { child, text: Vec::new(), trouble }
    }

    fn give_up(&mut self, why: AskError) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
        self.trouble = Some(why);
    }

    fn finish<T: DeserializeOwned>(self, until: Instant) -> Answer<T> {
        let Self { child, text, mut trouble } = self;
        let (end, left) = child.map_or((None, None), |child| end(child, trouble.is_none(), until));
        let (lines, wrong) = parse(&text);
        if trouble.is_none() {
            let nothing = (lines.is_empty() && wrong.is_none()).then_some(AskError::Nothing { end });
            trouble = wrong.map(|source| AskError::Unclear { end, source }).or(nothing);
        }
        Answer { lines, trouble, left }
    }
}

/// The lines that are whole and meant.
fn parse<T: DeserializeOwned>(text: &[u8]) -> (Vec<T>, Option<serde_json::Error>) {
    let (mut lines, mut all) = (Vec::new(), serde_json::Deserializer::from_slice(text).into_iter::<T>());
    loop {
        match all.next() {
            None => return (lines, None),
            Some(Ok(line)) => lines.push(line),
            Some(Err(wrong)) => return (lines, Some(wrong)),
        }
    }
}

fn start(helper: &[OsString], question: &[OsString]) -> Result<Child, AskError> {
    let (program, arguments) = helper.split_first().ok_or(AskError::Empty)?;
    let mut command = Command::new(program);
    command.args(arguments).args(question).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().map_err(|source| AskError::Start { program: program.clone(), source })
}

/// Everything that the helper prints until it closes its standard output.
fn read_until(child: &mut Child, (until, deadline): (Instant, Duration), answer: &mut Vec<u8>) -> Result<(), AskError> {
    let out = child.stdout.as_mut().ok_or_else(|| AskError::Read(io::ErrorKind::BrokenPipe.into()))?;
    let mut chunk = [0; 16 << 10];
    loop {
        if !readable(out.as_fd(), until).map_err(AskError::Read)? {
            return Err(AskError::Late(deadline));
        }
        match out.read(&mut chunk) {
            Ok(0) => return Ok(()),
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

/// Ends the helper, by itself if it `has_answered`; handed back where it hangs in the kernel, which nobody waits for.
fn end(mut child: Child, has_answered: bool, until: Instant) -> (Option<ExitStatus>, Option<Child>) {
    let gone = |child: &mut Child, until: Instant| {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        readable(pidfd.as_fd(), until).ok()?.then(|| child.try_wait().ok()).flatten()?
    };
    // It was not waited for, so that the number still is its own.
    if has_answered && let Some(end) = gone(&mut child, until) {
        return (Some(end), None);
    }
    let _ = child.kill();
    match gone(&mut child, until.max(Instant::now() + REAP / 4)) {
        Some(end) => (Some(end), None),
        None => (None, Some(child)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use serde_json::Value;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// `$1` is the question.
    fn shell(script: &str) -> Vec<OsString> {
        ["sh", "-c", script, "helper"].map(OsString::from).to_vec()
    }

    fn ask(script: &str, questions: &[&str], deadline: Duration) -> Vec<Answer<Value>> {
        ask_each(&shell(script), &questions.iter().map(|q| vec![OsString::from(q)]).collect::<Vec<_>>(), deadline)
    }

    #[test]
    fn each_question_is_answered_by_a_process_of_its_own_in_order() {
        let questions: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let answers = ask("echo $1; echo [$$]", &questions.iter().map(String::as_str).collect::<Vec<_>>(), LONG);
        let told = |n: usize| answers[n].lines.first().and_then(Value::as_u64);
        assert!((0..20).all(|n| told(n) == Some(n as u64) && answers[n].trouble.is_none()), "{answers:?}");
        assert_eq!(answers.iter().map(|a| a.lines[1].to_string()).collect::<std::collections::BTreeSet<_>>().len(), 20);
    }

    #[test]
    fn one_that_hangs_takes_nothing_from_the_others_and_what_it_said_before_counts() {
        let started = Instant::now();
        let answers = ask("echo $1; [ $1 = 1 ] && exec sleep 60; echo 7", &["1", "2", "3"], Duration::from_secs(3));
        assert!(matches!(answers[0].trouble, Some(AskError::Late(_))) && answers[0].lines == [1], "{answers:?}");
        assert!(answers[0].left.is_none(), "it can be killed");
        assert!(answers[1..].iter().all(|a| a.trouble.is_none() && a.lines.len() == 2), "{answers:?}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_helper_that_hangs_is_killed_and_reaped_at_the_deadline() {
        let mut child = start(&shell("exec sleep 60"), &[]).unwrap();
        let until = Instant::now() + Duration::from_millis(50);
        assert!(matches!(read_until(&mut child, (until, Duration::ZERO), &mut vec![]), Err(AskError::Late(_))));
        assert!(child.try_wait().unwrap().is_none(), "it was to hang");
        assert_eq!(end(child, false, Instant::now() + LONG).0.and_then(|e| e.signal()), Some(9));
    }

    #[test]
    fn a_helper_that_answers_and_stays_is_ended_too() {
        let answers = ask("echo 1; exec >&-; exec sleep 60", &[""], LONG);
        assert!(answers[0].lines == [1] && answers[0].left.is_none(), "{answers:?}");
    }

    #[test]
    fn a_helper_that_dies_without_an_answer_is_told_by_its_end() {
        let error = ask("exit 3", &[""], LONG).remove(0).trouble.unwrap().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        let error = ask("echo {", &[""], LONG).remove(0).trouble.unwrap().to_string();
        assert!(error.starts_with("understand the helper's answer (exit status: 0)"), "{error}");
    }

    #[test]
    fn a_helper_that_prints_without_end_is_cut_off() {
        assert!(matches!(ask("exec cat /dev/zero", &[""], LONG)[0].trouble, Some(AskError::Long)));
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let answers = ask_each::<Value>(&["/no/such/helper".into()], &[vec![]], LONG);
        let error = answers[0].trouble.as_ref().map(ToString::to_string).unwrap();
        assert!(error.contains("/no/such/helper"), "{error}");
        assert!(matches!(ask_each::<Value>(&[], &[vec![]], LONG)[0].trouble, Some(AskError::Empty)));
        assert!(ask_each::<Value>(&[], &[], LONG).is_empty());
    }
}
