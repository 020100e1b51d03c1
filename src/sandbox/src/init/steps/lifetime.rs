//! How long the init lives, and what it holds on to.

use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::init::InitContext;
use crate::step::{CallError, failed};

/// O_CLOEXEC does nothing on clone: everything that is not listed goes, first of all.
pub(super) fn close_inherited(context: &mut InitContext) -> Result<(), CallError> {
    rbee_hive_sys::fds::close_all_except(&context.raw_fds()).map_err(failed(|| "close_range(3, ~0)".into()))
}

/// A half-made init dies with the launcher. It blocks all signals (its loop reads them from a descriptor) and can't be traced.
pub(super) fn die_with_the_launcher(_: &mut InitContext) -> Result<(), CallError> {
    rbee_hive_sys::signals::reset_all().map_err(failed(|| "sigaction(SIG_DFL)".into()))?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).map_err(failed(|| "sigprocmask(SIG_SETMASK)".into()))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed(|| "prctl(PR_SET_PDEATHSIG)".into()))?;
    prctl::set_dumpable(false).map_err(failed(|| "prctl(PR_SET_DUMPABLE, 0)".into()))?;
    prctl::set_name(c"rbee-init").map_err(failed(|| "prctl(PR_SET_NAME)".into()))?;
    nix::unistd::setsid().map(drop).map_err(failed(|| "setsid()".into()))
}

/// The worker runs: from now on only the channel to the hive decides.
pub(crate) fn outlive_the_launcher() -> Result<(), CallError> {
    prctl::set_pdeathsig(None).map_err(failed(|| "prctl(PR_SET_PDEATHSIG, 0)".into()))
}
