//! The seed's binary.

use std::path::PathBuf;

use rbee_hive_sandbox::launcher::find_binary;

use crate::{ErrorKind, LifecycleError};

/// The seed's name for a worker's program.
const NAME: &str = "llama-worker";

/// Finds `llama-worker` by the seed's list: `./target/debug` in debug builds, `./target/release`, `/usr/local/bin`, `~/.local/bin`, PATH.
///
/// Errors: `binary_not_found`, with every place tried.
pub(super) fn find_worker_binary() -> Result<PathBuf, LifecycleError> {
    find_binary(NAME, &[], nix::unistd::getuid().as_raw()).map_err(|e| {
        let mut error = LifecycleError::new(ErrorKind::BinaryNotFound, format!("binary {NAME:?} is nowhere to be found"));
        error.hint = Some("install it, or name another one in a policy".into());
        error.tried = e.tried;
        error
    })
}
