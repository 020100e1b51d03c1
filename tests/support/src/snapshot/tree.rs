//! Folders and files below a directory.
//!
//! Owns: walking. Must never know: what they mean.

use std::fs;
use std::path::{Path, PathBuf};

/// `top` and every folder below it; nothing where it does not exist.
pub(super) fn folders(top: &Path) -> impl Iterator<Item = PathBuf> {
    walk(top).into_iter().filter(|path| path.is_dir())
}

/// Everything below `top` that is no folder.
pub(super) fn files(top: &Path) -> impl Iterator<Item = PathBuf> {
    walk(top).into_iter().filter(|path| !path.is_dir())
}

fn walk(top: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if top.is_dir() {
        all.push(top.to_path_buf());
    }
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(walk(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all
}
