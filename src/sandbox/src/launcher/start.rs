//! The hive's side: forks the launcher, once, before the hive has a thread.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use rbee_hive_sys::clone::SingleThreaded;

use super::HiveChannel;
use crate::protocol::{CgroupFacts, ChannelError, FromLauncher, HostFeature, LaunchError};

/// A launcher that is ready.
#[derive(Debug)]
pub struct Started {
    /// To it.
    pub channel: HiveChannel,
    /// Its process.
    pub child: Child,
    /// Its cgroup tree.
    pub cgroup: CgroupFacts,
    /// What the host has.
    pub host: std::collections::BTreeMap<String, HostFeature>,
}

/// Why there is no launcher.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This process has threads already.
    #[error("fork the launcher: this process must have one thread")]
    Threads(#[source] std::io::Error),
    /// The channel could not be made or broke.
    #[error("talk to the launcher")]
    Channel(#[from] ChannelError),
    /// It could not be executed.
    #[error("execute the launcher")]
    Execute(#[source] std::io::Error),
    /// It says why it can't serve.
    #[error("{}", .0.message)]
    Fatal(Box<LaunchError>),
    /// It said something else first.
    #[error("the launcher did not say hello")]
    NoHello,
}

/// Starts `rbee-hive launcher --channel-fd N ARGUMENTS…` from this very executable and waits until it is ready.
pub fn start(arguments: &[OsString]) -> Result<Started, StartError> {
    SingleThreaded::prove().map_err(StartError::Threads)?;
    let (channel, theirs) = HiveChannel::pair()?;
    // The one descriptor that it may inherit; its number travels on the command line.
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|e| StartError::Execute(e.into()))?;
    let child = Command::new("/proc/self/exe")
        .arg0("rbee-hive")
        .args(["launcher", "--channel-fd", &theirs.as_raw_fd().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(StartError::Execute)?;
    drop(theirs);
    match channel.recv()? {
        (FromLauncher::Hello { cgroup, host }, _) => Ok(Started { channel, child, cgroup, host }),
        (FromLauncher::Fatal { error }, _) => Err(StartError::Fatal(Box::new(error))),
        _ => Err(StartError::NoHello),
    }
}
