//! The seccomp filters, loaded last: from here on the process makes only the calls that its profile allows.

use rbee_hive_sys::seccomp;

use crate::init::InitContext;
use crate::init::watch::unwatched;
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let Some(filters) = context.filters.take() else { return deny_for_good(context) };
    for program in &filters.refusing {
        seccomp::load(program).map_err(failed(|| "seccomp(SECCOMP_SET_MODE_FILTER)".into()))?;
    }
    if context.plan.watch.is_some() {
        let listener = seccomp::load_watching(&filters.notifying).map_err(|e| unwatched("seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)", e))?;
        context.listener = Some(listener);
        return Ok(());
    }
    match seccomp::load_listening(&filters.notifying) {
        Ok(listener) => context.listener = Some(listener),
        // A filter above us has a listener already, or the kernel has none (before 5.0): it is killed without a word about the call.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EINVAL)) => {
            deny_for_good(context)?;
            seccomp::load(&filters.killing).map_err(failed(|| "seccomp(SECCOMP_SET_MODE_FILTER)".into()))?;
        }
        Err(e) => return Err(CallError::new("seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)", e)),
    }
    Ok(())
}

/// Without a listener of ours the worker could bring one of its own, and let pass what the deny-list only notifies.
fn deny_for_good(context: &InitContext) -> Result<(), CallError> {
    let Some(list) = &context.deny.bare_worker else { return Ok(()) };
    list.load().map_err(failed(|| "seccomp(SECCOMP_SET_MODE_FILTER)".into()))
}
