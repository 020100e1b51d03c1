//! The sandbox's host name.

use crate::init::InitContext;
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let name = &context.plan.hostname;
    nix::unistd::sethostname(name).map_err(failed(|| format!("sethostname({name:?})")))
}
