//! A session, a keyring, an execution domain, a watchdog and a signal state of the worker's own.

use nix::sys::personality::{self, Persona};
use rbee_hive_policy::LivenessProbe;

use crate::init::InitContext;
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    name_the_watched(context);
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

/// Whose watchdog it is: sd_watchdog_enabled(3) answers to no other process, so that a child takes it for none of its own.
fn name_the_watched(context: &mut InitContext) {
    if context.plan.liveness.as_ref().is_some_and(|plan| plan.probe == LivenessProbe::Watchdog) {
        context.plan.env.insert("WATCHDOG_PID".into(), std::process::id().to_string());
    }
}

/// The init's blocked signals, and what the launcher's caller ignored, must not reach the program.
pub(super) fn reset_signals(_: &mut InitContext) -> Result<(), CallError> {
    rbee_hive_sys::signals::reset_all().map_err(failed(|| "sigprocmask(SIG_SETMASK)".into()))
}
