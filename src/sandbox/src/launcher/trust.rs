//! Whether a path can be believed: nobody but root (and one more, where said) can have put something there.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a path is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It can't be looked at.
    #[error("look at {path:?}")]
    Look {
        /// The component.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else's.
    #[error("{path:?} belongs to uid {uid}; give it to root (chown root)")]
    Owner {
        /// The component.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Others can write there.
    #[error("{path:?} can be written by others (mode {mode:04o}); take that away (chmod go-w)")]
    Writable {
        /// The component.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// Checks every component of `path`, links resolved: each belongs to root or to one of `owners`, and no other can write it. A sticky
/// directory is no exception: anybody can make a new name in it.
pub fn check_path(path: &Path, owners: &[u32]) -> Result<PathBuf, Untrusted> {
    let look = |path: &Path| {
        let path = path.to_owned();
        move |source| Untrusted::Look { path, source }
    };
    let real = path.canonicalize().map_err(look(path))?;
    let mut reached = PathBuf::new();
    for part in real.components() {
        reached.push(OsString::from(part.as_os_str()));
        let there = std::fs::symlink_metadata(&reached).map_err(look(&reached))?;
        if there.uid() != 0 && !owners.contains(&there.uid()) {
            return Err(Untrusted::Owner { path: reached, uid: there.uid() });
        }
        if there.mode() & 0o022 != 0 {
            return Err(Untrusted::Writable { path: reached, mode: there.mode() & 0o7777 });
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sticky_directory_is_not_trusted() {
        let dir = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        let me = nix::unistd::geteuid().as_raw();
        assert!(matches!(check_path(dir.path(), &[me]), Err(Untrusted::Writable { path, .. }) if path == Path::new("/tmp")));
        assert!(check_path(Path::new("/usr"), &[]).is_ok());
    }
}
