//! The points of a build for tests.
//!
//! Both files are opened once in each program and kept by the processes that it clones: an init has neither the host's paths nor the environment.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use super::setting::{Action, Setting};
use crate::step::{CallError, failed};

const VARIABLE: &str = "RBEE_FAIL_POINTS";
/// The test writes that many bytes at once, the rest of them spaces: a reader sees one setting or the next.
const BLOCK: usize = 4096;

static FILES: OnceLock<Option<Files>> = OnceLock::new();
static STATE: Mutex<State> = Mutex::new(State { process: "", subject: String::new(), text: String::new(), passed: Vec::new() });

struct Files {
    set: File,
    hits: File,
}

struct State {
    process: &'static str,
    /// The worker whose process this is; begins every subject.
    subject: String,
    /// The setting that is counted for.
    text: String,
    /// How often each of its entries was passed.
    passed: Vec<u32>,
}

/// Which process this is from now on, the first word of its points, and whose. It counts from zero.
pub fn enter(process: &'static str, subject: &str) {
    files();
    let mut state = state();
    state.process = process;
    state.subject = subject.to_owned();
    state.text.clear();
}

/// The point before a step of making a sandbox.
pub(crate) fn step(name: &str) -> Result<(), CallError> {
    fails(&format!("step.{name}"), "").map_err(failed(|| "fail-point".into()))
}

/// Descriptors that have to stay open.
pub(crate) fn raw_fds() -> Vec<RawFd> {
    files().iter().flat_map(|files| [files.set.as_raw_fd(), files.hits.as_raw_fd()]).collect()
}

/// The point `name` of this process, about `who`.
///
/// # Errors
/// The errno that was set.
pub fn fails(name: &str, who: &str) -> io::Result<()> {
    let Some(files) = files() else { return Ok(()) };
    let due = {
        let mut state = state();
        let point = format!("{}.{name}", state.process);
        let who = format!("{} {who}", state.subject);
        let Some(setting) = files.setting(&mut state) else { return Ok(()) };
        if setting.trace {
            files.tell("passed", &point, &who);
        }
        let due = state.pass(&setting, &point, &who);
        if due.is_some() {
            files.tell("fired", &point, &who);
        }
        due
    };
    // Not under the lock: others of this process go on meanwhile.
    due.map_or(Ok(()), carry_out)
}

fn files() -> &'static Option<Files> {
    FILES.get_or_init(|| {
        let directory = std::env::var_os(VARIABLE)?;
        let set = File::open(Path::new(&directory).join("set")).ok()?;
        let hits = OpenOptions::new().append(true).open(Path::new(&directory).join("hits")).ok()?;
        Some(Files { set, hits })
    })
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files {
    fn setting(&self, state: &mut State) -> Option<Setting> {
        let mut block = [0; BLOCK];
        let length = self.set.read_at(&mut block, 0).ok()?;
        let text = String::from_utf8_lossy(&block[..length]);
        let text = text.trim_end();
        let setting = Setting::parse(text)?;
        if state.text != text {
            state.text = text.to_owned();
            state.passed = vec![0; setting.entries.len()];
        }
        Some(setting)
    }

    /// One write: lines of several processes do not mix.
    fn tell(&self, what: &str, point: &str, who: &str) {
        let _ = (&self.hits).write_all(format!("{what}\t{point}\t{who}\t{}\n", getpid()).as_bytes());
    }
}

impl State {
    /// Counts; what is to be done now.
    fn pass(&mut self, setting: &Setting, point: &str, who: &str) -> Option<Action> {
        let mut due = None;
        for (entry, passed) in setting.entries.iter().zip(&mut self.passed) {
            if entry.is_at(point, who) {
                *passed += 1;
                if entry.nth.is_none_or(|nth| nth == *passed) {
                    due = due.or(Some(entry.action));
                }
            }
        }
        due
    }
}

#[expect(clippy::disallowed_methods, reason = "to wait is what was asked for")]
fn carry_out(action: Action) -> io::Result<()> {
    match action {
        Action::Kill => die(),
        Action::Exit(code) => rbee_hive_sys::clone::exit_now(code),
        Action::Fail(errno) => Err(errno.into()),
        Action::Delay(time) => {
            std::thread::sleep(time);
            Ok(())
        }
    }
}

fn die() -> io::Result<()> {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = kill(getpid(), Signal::SIGKILL);
    // An init takes no signal from inside its namespace (pid_namespaces(7)), but for that of a fault of its own, with which this ends.
    std::process::abort()
}
