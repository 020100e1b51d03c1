//! Where the next hive finds this init when the present one is gone.
//!
//! The launcher has bound the socket; it listens only here, so that who connects is told the init's number and not the launcher's
//! (unix(7), SO_PEERCRED).

use nix::sys::socket::{Backlog, listen};

use crate::init::InitContext;
use crate::step::{CallError, failed};

/// A hive comes alone.
const BACKLOG: i32 = 4;

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let Some(door) = &context.door else { return Ok(()) };
    let backlog = Backlog::new(BACKLOG).map_err(failed(|| "listen(init.sock)".into()))?;
    listen(door, backlog).map_err(failed(|| "listen(init.sock)".into()))
}
