//! The launcher: the only process that changes the host. Privileged, single-threaded, no tokio.
//!
//! It receives requests, not plans: policies, paths, uids and device numbers are its own findings. One loop waits for the hive's
//! messages and for the ends of the inits; nothing in it waits for anything else.
//!
//! Must never know: what a worker means, who asked the hive.

mod answer;
mod ask;
mod audit;
mod confine;
mod descriptors;
mod directories;
mod find;
mod gpu_locks;
mod inspect;
mod judge;
mod ledger;
mod memory;
mod mps;
mod namespaces;
mod pace;
mod policies;
mod resolve;
mod serve;
mod spawn;
mod start;
mod trust;
mod uids;
mod update;

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) use confine::DenyLists;

use crate::protocol::{Channel, FromLauncher, LaunchError, LaunchErrorKind, ToLauncher};
pub use ask::{JudgeError, judge};
pub use resolve::binary::{BinaryNotFound, find_binary};
pub use start::{StartError, Started, start};
pub use trust::{Untrusted, check_path};

/// Everything that the launcher is told, on its own command line and nowhere else.
#[derive(Clone, Debug)]
pub struct LauncherOptions {
    /// State directory; `workers/` and `root/` below it are made.
    pub state_dir: PathBuf,
    /// Log directory; `workers/` below it is made.
    pub log_dir: PathBuf,
    /// Directories with policies, in order; the embedded ones come last.
    pub policies: Vec<PathBuf>,
    /// `run --policy FILE`: this file, whatever name is asked for.
    pub policy_file: Option<PathBuf>,
    /// Added to the `model_dirs` of every policy.
    pub model_dirs: Vec<PathBuf>,
    /// Added to the `binary_dirs` of every policy.
    pub binary_dirs: Vec<PathBuf>,
    /// Simulated inventory.
    pub devices: Option<PathBuf>,
    /// The command that reads what the drivers tell of GPUs, so that a wedged one keeps a helper and not the launcher.
    pub device_helper: Vec<OsString>,
    /// NVIDIA's MPS control program, where it is not to be looked for.
    pub mps_control: Option<PathBuf>,
    /// `--cgroup-root`.
    pub cgroup_root: Option<String>,
    /// Our root where none is given.
    pub default_cgroup_root: String,
    /// The group that may read logs and records.
    pub group: u32,
    /// Who started the hive: files of theirs are trusted like root's when looked up relative to the current directory or the home.
    pub owner: u32,
    /// Whether the policy `trusted` may be used.
    pub allow_trusted: bool,
    /// Uids for workers.
    pub worker_uids: RangeInclusive<u32>,
    /// Ports that workers may have.
    pub ports: RangeInclusive<u16>,
    /// Most workers at a time.
    pub max_workers: usize,
    /// Most bytes of `memory_max` of all workers together.
    pub memory_total: Option<u64>,
    /// Shortest time between two spawns; those that come faster wait.
    pub spawn_interval: Duration,
    /// One foreground command, or a hive.
    pub purpose: Purpose,
    /// Whether the foreground command is watched, for `policy learn`. A hive's launcher does not start with it.
    pub watch: bool,
}

/// What the launcher serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A hive.
    Serve,
    /// `rbee-hive run`.
    Run,
}

/// The hive's end of the channel.
pub type HiveChannel = Channel<ToLauncher, FromLauncher>;
type LauncherChannel = Channel<FromLauncher, ToLauncher>;

/// `rbee-hive launcher`: serves until the hive is gone. `fd` is the number of its end of the channel.
pub fn main(fd: i32, options: LauncherOptions) -> ExitCode {
    let Ok(socket) = rbee_hive_sys::fds::inherited(fd) else { return ExitCode::from(2) };
    let channel = LauncherChannel::new(socket);
    if options.watch && options.purpose != Purpose::Run {
        let error = LaunchError::new(LaunchErrorKind::InvalidParams, "only a foreground command can be watched, no worker of a hive");
        let _ = channel.send(&FromLauncher::Fatal { error }, &[]);
        return ExitCode::FAILURE;
    }
    match serve::Launcher::prepare(options) {
        Ok(launcher) => launcher.serve(&channel),
        Err(error) => {
            // Whoever started it tells of it; if the hive is gone as well there is nobody left to tell.
            if channel.send(&FromLauncher::Fatal { error: error.clone() }, &[]).is_err() {
                tracing::error!(kind = ?error.kind, "{}", error.message);
            }
            ExitCode::FAILURE
        }
    }
}

/// For a launcher whose options can't be: tells the hive why.
pub fn refuse(fd: i32, why: &str) -> ExitCode {
    if let Ok(socket) = rbee_hive_sys::fds::inherited(fd) {
        let error = LaunchError::new(LaunchErrorKind::InvalidParams, why);
        let _ = LauncherChannel::new(socket).send(&FromLauncher::Fatal { error }, &[]);
    }
    ExitCode::FAILURE
}

impl LaunchError {
    /// An error with nothing but a kind and a message.
    pub(crate) fn new(kind: LaunchErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), step: None, errno: None, hint: None, tried: vec![] }
    }

    /// A failed step of the launcher's own.
    pub(crate) fn setup(step: &str, error: crate::step::CallError) -> Self {
        let failure = crate::SetupFailure::of(step, error);
        Self {
            kind: LaunchErrorKind::SetupFailed,
            message: failure.message,
            step: Some(failure.step),
            errno: failure.errno,
            hint: failure.hint,
            tried: vec![],
        }
    }

    /// The same, short enough for a message whatever it quotes.
    pub(crate) fn bounded(mut self) -> Self {
        const MAX_TEXT: usize = 8192;
        const MAX_PLACES: usize = 32;
        const MAX_PLACE: usize = 300;
        self.message = audit::clipped(&self.message, MAX_TEXT);
        self.tried.truncate(MAX_PLACES);
        self.tried.iter_mut().for_each(|place| *place = audit::clipped(place, MAX_PLACE));
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_tried(mut self, tried: Vec<String>) -> Self {
        self.tried = tried;
        self
    }
}
