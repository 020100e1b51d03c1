//! Paths: listed twice, listed in vain, or open where they should not be.

use std::path::{Path, PathBuf};

use super::Findings;
use crate::file::ListedPath;

/// What a worker that can write there could change for others.
const SYSTEM: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/boot", "/root", "/opt"];

pub(super) fn look(findings: &mut Findings<'_>) {
    let files = &findings.policy().filesystem;
    within(findings, "filesystem.read_only", &files.read_only);
    within(findings, "filesystem.read_write", &files.read_write);
    between(findings, &files.read_only, &files.read_write);
    for (index, listed) in files.read_write.iter().enumerate() {
        if let Some(system) = SYSTEM.iter().find(|s| listed.path.starts_with(s)) {
            let text = format!("a worker could change the host's own {system}; list a directory that holds nothing but its data");
            findings.warning(&format!("filesystem.read_write[{index}]"), text);
        }
    }
    let worker = &findings.policy().worker;
    for (key, list) in [
        ("worker.model_dirs", &worker.model_dirs),
        ("worker.binary_dirs", &worker.binary_dirs),
        ("worker.library_dirs", &worker.library_dirs),
    ] {
        directories(findings, key, list, &files.read_write);
    }
}

/// One list: twice, or below another entry.
fn within(findings: &mut Findings<'_>, key: &str, list: &[ListedPath]) {
    for (index, listed) in list.iter().enumerate() {
        let at = format!("{key}[{index}]");
        let shown = listed.path.display();
        let others = || list.iter().enumerate().filter(move |(other, _)| *other != index);
        if list[..index].iter().any(|other| other.path == listed.path) {
            findings.warning(&at, format!("{shown} is listed twice; remove one of the two"));
        } else if let Some((_, outer)) = others().find(|(_, o)| o.path != listed.path && listed.path.starts_with(&o.path)) {
            let text = format!("{shown} lies below {}, which is shown with the same access; remove it", outer.path.display());
            findings.warning(&at, text);
        }
    }
}

/// Both lists: what is to be read-only must not be writable by the other. What lies below a writable directory is mounted after it, and may be.
fn between(findings: &mut Findings<'_>, read_only: &[ListedPath], read_write: &[ListedPath]) {
    for (index, listed) in read_only.iter().enumerate().filter(|(_, listed)| read_write.iter().any(|w| w.path == listed.path)) {
        let text = format!("{} is listed in read_write, too, and so is writable; remove it from one of the two", listed.path.display());
        findings.error(&format!("filesystem.read_only[{index}]"), text);
    }
}

/// Directories of models, binaries and libraries are meant to be read.
fn directories(findings: &mut Findings<'_>, key: &str, list: &[PathBuf], read_write: &[ListedPath]) {
    for (index, path) in list.iter().enumerate() {
        let at = format!("{key}[{index}]");
        let below = |outer: &Path| path != outer && path.starts_with(outer);
        if list[..index].contains(path) {
            findings.warning(&at, format!("{} is listed twice; remove one of the two", path.display()));
        } else if let Some(outer) = list.iter().find(|outer| below(outer)) {
            findings.warning(&at, format!("{} lies below {}, which is listed, too; remove it", path.display(), outer.display()));
        }
        if let Some(writable) = read_write.iter().find(|w| path.starts_with(&w.path) || w.path.starts_with(path)) {
            let text = format!(
                "a worker can write in {} ({} is read_write), and so change what others are given from there; keep them apart",
                path.display(),
                writable.path.display()
            );
            findings.warning(&at, text);
        }
    }
}
