//! The pipes from the worker's stdout and stderr to the init.

use std::os::fd::OwnedFd;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use rbee_hive_sys::fds::above_stdio;

use crate::init::context::{InitContext, Pipes, Stdio};
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    if !matches!(context.stdio, Stdio::Logged { .. }) {
        return Ok(());
    }
    let (out_read, out_write) = one()?;
    let (err_read, err_write) = one()?;
    context.pipes = Some(Pipes { worker: [out_write, err_write], init: [out_read, err_read] });
    Ok(())
}

fn one() -> Result<(OwnedFd, OwnedFd), CallError> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(failed(|| "pipe2(O_CLOEXEC)".into()))?;
    let high = |fd| above_stdio(fd).map_err(failed(|| "fcntl(F_DUPFD_CLOEXEC, 3)".into()));
    let (read, write) = (high(read)?, high(write)?);
    // Only the reader must not wait: the worker's ends stay as a program expects them.
    rustix::io::ioctl_fionbio(&read, true).map_err(failed(|| "ioctl(FIONBIO)".into()))?;
    Ok((read, write))
}
