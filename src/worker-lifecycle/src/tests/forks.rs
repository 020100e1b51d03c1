//! Forks of the test process, kept away from looks at ports.
//!
//! Between fork and exec a child holds a copy of every descriptor, listening sockets included: a port that was given back is in use until
//! then. The hive itself never forks, so this is a matter of tests alone.

use std::process::{Child, Command};

use tokio::sync::{RwLock, RwLockWriteGuard};

static FORKS: RwLock<()> = RwLock::const_new(());

/// Starts `command`; returns after its exec. For threads that are not the runtime's.
pub(crate) fn start(command: &mut Command) -> Child {
    let _forking = FORKS.blocking_read();
    command.spawn().unwrap()
}

/// While it is held nothing forks. Not for waiting on what forks.
pub(super) async fn none() -> RwLockWriteGuard<'static, ()> {
    FORKS.write().await
}

/// The same for a thread that is not the runtime's.
pub(crate) fn none_here() -> RwLockWriteGuard<'static, ()> {
    FORKS.blocking_write()
}
