//! What the paths that a policy shows read-only are on this host: there, links, or absent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Links become links inside, absent ones are left to the policy to judge.
#[derive(Default)]
pub(crate) struct HostPaths {
    pub(crate) symlinks: BTreeMap<PathBuf, PathBuf>,
    pub(crate) absent: BTreeSet<PathBuf>,
}

pub(crate) fn look_at(paths: impl Iterator<Item = PathBuf>) -> HostPaths {
    let mut found = HostPaths::default();
    for path in paths {
        match std::fs::symlink_metadata(&path) {
            Ok(there) if there.is_symlink() => match std::fs::read_link(&path) {
                Ok(target) => drop(found.symlinks.insert(path, target)),
                Err(_) => drop(found.absent.insert(path)),
            },
            Ok(_) => {}
            Err(_) => drop(found.absent.insert(path)),
        }
    }
    found
}
