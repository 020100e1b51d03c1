//! A session, a keyring, an execution domain and a signal state of the worker's own.

use nix::sys::personality::{self, Persona};

use crate::init::InitContext;
use crate::step::{CallError, failed};

pub(super) fn run(_: &mut InitContext) -> Result<(), CallError> {
    nix::unistd::setsid().map_err(failed(|| "setsid()".into()))?;
    // Who starts the hive below `setarch -R` must not take address randomisation from its workers (personality(2)).
    personality::set(Persona::empty()).map_err(failed(|| "personality(PER_LINUX)".into()))?;
    match rbee_hive_sys::keyring::join_new_session() {
        Ok(()) => Ok(()),
        // No keyrings in this kernel, or a filter above us denies keyctl: either way the worker can't reach the launcher's.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES)) => Ok(()),
        Err(e) => Err(CallError::new("keyctl(KEYCTL_JOIN_SESSION_KEYRING)", e)),
    }
}

/// The init's blocked signals, and what the launcher's caller ignored, must not reach the program.
pub(super) fn reset_signals(_: &mut InitContext) -> Result<(), CallError> {
    rbee_hive_sys::signals::reset_all().map_err(failed(|| "sigprocmask(SIG_SETMASK)".into()))
}
