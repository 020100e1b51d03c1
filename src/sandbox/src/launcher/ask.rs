//! A launcher for one question: started as for `run`, asked, and ended. What it made is gone afterwards.

use std::ffi::OsString;

use super::start::{StartError, start};
use crate::protocol::{FromLauncher, Judgement, LaunchError, ToLauncher};

/// Why there is no judgement.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// There is no launcher.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It says why it can't judge this policy.
    #[error("{}", .0.message)]
    Refused(Box<LaunchError>),
    /// It said something else, or nothing.
    #[error("the launcher did not answer")]
    NoAnswer,
}

/// Has the policy `name` judged by a launcher with these arguments, and with the rights of this process, which must have one thread.
pub fn judge(arguments: &[OsString], name: &str) -> Result<Judgement, JudgeError> {
    let mut started = start(arguments)?;
    let asked = started.channel.send(&ToLauncher::PolicyJudge { seq: 1, name: name.to_owned() }, &[]);
    let answer = asked.and_then(|()| started.channel.recv());
    // It removes its cgroup root and its directories; its end of the channel closes when it is done.
    let _ = started.channel.send(&ToLauncher::Shutdown, &[]);
    while started.channel.recv().is_ok() {}
    let _ = started.child.wait();
    match answer {
        Ok((FromLauncher::Judged { judgement, .. }, _)) => Ok(*judgement),
        Ok((FromLauncher::Refused { error, .. }, _)) => Err(JudgeError::Refused(Box::new(error))),
        _ => Err(JudgeError::NoAnswer),
    }
}
