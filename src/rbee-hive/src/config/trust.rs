//! Whether a path can only have been written by root.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What makes a path untrustworthy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// A component could not be looked at.
    #[error("look at {path:?}")]
    Look {
        /// The component.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// A component belongs to someone else.
    #[error("{path:?} belongs to uid {uid}, not to root")]
    Owner {
        /// The component.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A component can be written by others; a sticky directory is no exception.
    #[error("{path:?} can be written by others (mode {mode:o}); chmod go-w it")]
    Mode {
        /// The component.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Checks every component of `path`, symbolic links resolved, from the file up to `/`.
pub(crate) fn check_root_owned(path: &Path) -> Result<(), TrustError> {
    let look = |at: &Path, source| TrustError::Look { path: at.into(), source };
    let real = path.canonicalize().map_err(|e| look(path, e))?;
    for part in real.ancestors() {
        let meta = part.symlink_metadata().map_err(|e| look(part, e))?;
        if meta.uid() != 0 {
            return Err(TrustError::Owner { path: part.into(), uid: meta.uid() });
        }
        if meta.mode() & 0o022 != 0 {
            return Err(TrustError::Mode { path: part.into(), mode: meta.mode() & 0o7777 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_through_a_sticky_directory_is_not_trusted() {
        let dir = tempfile::Builder::new().prefix("rbee-hive-trust-").tempdir_in("/tmp").unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "").unwrap();
        assert!(check_root_owned(&file).is_err());
    }

    #[test]
    fn the_root_directory_is_trusted_and_a_missing_file_is_not() {
        let absent = Path::new("/etc/rbee-hive-does-not-exist");
        assert!(matches!(check_root_owned(absent), Err(TrustError::Look { .. })));
    }
}
