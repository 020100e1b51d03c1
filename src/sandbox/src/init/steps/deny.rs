//! The deny-list: what of it the launcher does not already live under.

use crate::init::InitContext;
use crate::step::{CallError, failed};

/// Before no_new_privs: an init has CAP_SYS_ADMIN in its own user namespace, root's or not.
pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let Some(list) = context.deny.init.take() else { return Ok(()) };
    list.load().map_err(failed(|| "seccomp(SECCOMP_SET_MODE_FILTER)".into()))
}
