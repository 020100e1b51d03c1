//! Descriptors 0, 1 and 2.

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rbee_hive_sys::fds::{above_stdio, install};

use crate::init::context::{InitContext, Stdio};
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    match (&context.stdio, &context.pipes) {
        (Stdio::Inherited(streams), _) => {
            for (number, stream) in streams.iter().enumerate() {
                install(stream, number as i32).map_err(failed(|| format!("dup2({number})")))?;
            }
        }
        (_, Some(pipes)) => {
            let null =
                open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed(|| "open(\"/dev/null\")".into()))?;
            let null = above_stdio(null).map_err(failed(|| "fcntl(F_DUPFD_CLOEXEC, 3)".into()))?;
            for (number, stream) in [&null, &pipes.worker[0], &pipes.worker[1]].into_iter().enumerate() {
                install(stream, number as i32).map_err(failed(|| format!("dup2({number})")))?;
            }
        }
        _ => return Err(CallError::new("look up the output pipes", std::io::Error::from_raw_os_error(libc::EBADF))),
    }
    Ok(())
}
