//! Taking cgroups away: depth first, bounded, never waiting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::detect::Hierarchy;

/// Deepest sub-cgroup that is removed.
const MAX_DEPTH: usize = 16;
/// Most sub-cgroups of one cgroup that are removed in one go.
const MAX_CHILDREN: usize = 4096;

/// How far the removal of a worker's cgroups came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nothing is left in any hierarchy.
    Done,
    /// Some directories could not be removed yet (processes that are still ending): try again.
    Busy {
        /// Directory and error of each.
        left: Vec<String>,
    },
}

/// Removes `path` with all below it in every hierarchy.
pub(super) fn remove_everywhere(hierarchies: &[Hierarchy], path: &str) -> Removal {
    let mut left = Vec::new();
    for hierarchy in hierarchies {
        remove(&hierarchy.dir(path), MAX_DEPTH, &mut left);
    }
    if left.is_empty() { Removal::Done } else { Removal::Busy { left } }
}

/// Removes one cgroup and its children; what stays is added to `left`.
fn remove(dir: &Path, depth: usize, left: &mut Vec<String>) {
    let before = left.len();
    if let Some(deeper) = depth.checked_sub(1) {
        for child in children(dir) {
            remove(&child, deeper, left);
        }
    }
    // A parent of what stays cannot go; one line is enough.
    if left.len() > before {
        return;
    }
    if let Some(line) = remove_one(dir) {
        left.push(line);
    }
}

/// `rmdir`; a line for a person where it fails.
pub(super) fn remove_one(dir: &Path) -> Option<String> {
    match fs::remove_dir(dir) {
        Ok(()) => None,
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(format!("{}: {e}", dir.display())),
    }
}

/// The child cgroups of `dir`, `worker` before `init` so that limits go last with their holder.
pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).take(MAX_CHILDREN).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// Names of the worker groups (`w-*`) below `workers` in any hierarchy, each once.
pub(super) fn worker_groups(hierarchies: &[Hierarchy], workers: &str) -> Vec<String> {
    let mut names: Vec<String> = hierarchies
        .iter()
        .flat_map(|h| children(&h.dir(workers)))
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|name| name.starts_with("w-"))
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::super::detect::Version;
    use super::*;

    fn fake(dir: &Path) -> Vec<Hierarchy> {
        vec![Hierarchy { version: Version::V2, controllers: vec![], mount: dir.to_owned(), mount_root: "/".into() }]
    }

    #[test]
    fn nested_groups_go_and_a_busy_one_is_named_once() {
        let t = tempfile::tempdir().unwrap();
        fs::create_dir_all(t.path().join("r/w-1/worker/a/b")).unwrap();
        fs::create_dir_all(t.path().join("r/w-1/init")).unwrap();
        let h = fake(t.path());
        assert_eq!(worker_groups(&h, "/r"), ["w-1"]);
        // A plain file keeps a plain directory from going, as a process keeps a cgroup.
        fs::write(t.path().join("r/w-1/init/process"), "").unwrap();
        let Removal::Busy { left } = remove_everywhere(&h, "/r/w-1") else { panic!("removed a busy group") };
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].contains("w-1/init"));
        assert!(!t.path().join("r/w-1/worker").exists());
        fs::remove_file(t.path().join("r/w-1/init/process")).unwrap();
        assert_eq!(remove_everywhere(&h, "/r/w-1"), Removal::Done);
        assert_eq!(remove_everywhere(&h, "/r/w-1"), Removal::Done, "again is no error");
    }
}
