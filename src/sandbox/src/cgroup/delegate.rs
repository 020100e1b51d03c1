//! What a cgroup needs from the levels above it: v2 controllers enabled, v1 cpusets filled.
//!
//! Must never know: workers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::CgroupError;
use super::interface;

/// v2 controllers that we use.
const V2_CONTROLLERS: [&str; 7] = ["memory", "pids", "cpu", "cpuset", "io", "hugetlb", "dmem"];

/// A controller that we enabled in a directory, so that it can be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Enabled {
    /// Whose `cgroup.subtree_control`.
    pub(super) dir: PathBuf,
    /// Controller.
    pub(super) controller: String,
}

/// Enables our controllers in `dir` for its children, as far as `dir` has them. One write each: one that fails does not take others along.
///
/// Gives a note for each that could not be enabled; what was enabled is added to `done`.
pub(super) fn enable(dir: &Path, done: &mut Vec<Enabled>) -> Vec<String> {
    let available = words(dir, "cgroup.controllers");
    let present = words(dir, "cgroup.subtree_control");
    let mut notes = Vec::new();
    for controller in V2_CONTROLLERS.iter().filter(|c| available.contains(**c) && !present.contains(**c)) {
        match interface::write(&dir.join("cgroup.subtree_control"), &format!("+{controller}")) {
            Ok(()) => done.push(Enabled { dir: dir.to_owned(), controller: (*controller).to_owned() }),
            Err(e) => notes.push(refusal(dir, controller, &e)),
        }
    }
    notes
}

fn refusal(dir: &Path, controller: &str, error: &CgroupError) -> String {
    let why = match error.errno() {
        Some(libc::EBUSY) => "processes sit in it (EBUSY); a cgroup with controllers for its children may hold none".to_owned(),
        Some(libc::EACCES | libc::EPERM) => "it is not ours to write (no delegation)".to_owned(),
        Some(libc::EROFS) => "the cgroup file system is read-only".to_owned(),
        _ => error.to_string(),
    };
    format!("the {controller} controller cannot be enabled in {}: {why}", dir.display())
}

/// Undoes [`enable`], deepest first; what others use by now stays.
pub(super) fn disable(enabled: &mut Vec<Enabled>) {
    while let Some(Enabled { dir, controller }) = enabled.pop() {
        // EBUSY: a child hands it on to its own children. ENOENT: the directory has gone.
        let _ = interface::write(&dir.join("cgroup.subtree_control"), &format!("-{controller}"));
    }
}

/// The words of an interface file; none where it cannot be read.
pub(super) fn words(dir: &Path, file: &str) -> BTreeSet<String> {
    interface::read(&dir.join(file)).map(|t| t.split_ascii_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

/// Fills an empty v1 cpuset from its parent: a group without CPUs and nodes takes no task (ENOSPC).
pub(super) fn seed_cpuset(dir: &Path) -> Result<(), CgroupError> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if interface::read(&dir.join(file))?.trim().is_empty() {
            interface::write(&dir.join(file), interface::read(&parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_is_available_and_missing_is_enabled() {
        let t = tempfile::tempdir().unwrap();
        fs::write(t.path().join("cgroup.controllers"), "cpuset cpu io memory hugetlb pids rdma\n").unwrap();
        fs::write(t.path().join("cgroup.subtree_control"), "memory pids cpuset io hugetlb\n").unwrap();
        let mut done = Vec::new();
        assert_eq!(enable(t.path(), &mut done), Vec::<String>::new());
        assert_eq!(done, [Enabled { dir: t.path().to_owned(), controller: "cpu".into() }]);
    }

    #[test]
    fn a_controller_that_cannot_be_enabled_is_a_note_that_names_it() {
        let t = tempfile::tempdir().unwrap();
        fs::write(t.path().join("cgroup.controllers"), "memory\n").unwrap();
        fs::create_dir(t.path().join("cgroup.subtree_control")).unwrap();
        let mut done = Vec::new();
        let notes = enable(t.path(), &mut done);
        assert!(notes.len() == 1 && notes[0].contains("memory") && done.is_empty(), "{notes:?}");
    }

    #[test]
    fn an_empty_cpuset_takes_the_parents() {
        let t = tempfile::tempdir().unwrap();
        let child = t.path().join("c");
        fs::create_dir(&child).unwrap();
        for (dir, cpus, mems) in [(t.path(), "0-1\n", "0\n"), (&child, "\n", "1\n")] {
            fs::write(dir.join("cpuset.cpus"), cpus).unwrap();
            fs::write(dir.join("cpuset.mems"), mems).unwrap();
        }
        seed_cpuset(&child).unwrap();
        // Files of a temporary directory are overwritten in place, cgroup files as a whole: compare what matters.
        assert!(fs::read_to_string(child.join("cpuset.cpus")).unwrap().starts_with("0-1"));
        assert_eq!(fs::read_to_string(child.join("cpuset.mems")).unwrap(), "1\n");
    }
}
