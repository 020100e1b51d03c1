//! The root of a tree: where it may lie, made at every level, locked, and left again.
//!
//! Must never know: what lies below it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::delegate;
use super::detect::{self, Hierarchy, Layout, Version};
use super::error::CgroupError;
use super::interface::{self, Made};

/// How often a root that vanishes while it is made or locked is tried again.
const MAX_TRIES: usize = 4;

/// Moves what is in `hive`, which are hive and launcher, back to `origin`; a line for each that does not go.
pub(super) fn leave(hive: &Path, origin: &Path) -> Vec<String> {
    let inside = interface::read(&hive.join("cgroup.procs")).unwrap_or_default();
    let moved = inside.lines().map(|pid| interface::write(&origin.join("cgroup.procs"), pid));
    // ESRCH: it has ended since.
    let failed = moved.filter_map(Result::err).filter(|e| e.errno() != Some(libc::ESRCH));
    failed.map(|e| format!("{}: {e}", hive.display())).collect()
}

/// Makes every level of `path`, remembering the parents that were not there (deepest last).
pub(super) fn make_path(hierarchy: &Hierarchy, path: &str, created: &mut Vec<PathBuf>) -> Result<(), CgroupError> {
    let mut tries = 0;
    'again: loop {
        tries += 1;
        let mut dir = hierarchy.mount.clone();
        let mut parts = path.split('/').filter(|p| !p.is_empty()).peekable();
        while let Some(part) = parts.next() {
            dir.push(part);
            match interface::make(&dir) {
                Ok(Made::Now) if parts.peek().is_some() => created.push(dir.clone()),
                Ok(_) => {}
                // Another hive has just removed the parent that it had made.
                Err(e) if e.errno() == Some(libc::ENOENT) && tries < MAX_TRIES => continue 'again,
                Err(e) => return Err(e),
            }
            if hierarchy.has("cpuset") {
                delegate::seed_cpuset(&dir)?;
            }
        }
        return Ok(());
    }
}

/// Takes the lock on the root and makes sure that it is still the root that is locked.
pub(super) fn lock(hierarchy: &Hierarchy, root: &str, created: &mut Vec<PathBuf>) -> Result<OwnedFd, CgroupError> {
    let path = hierarchy.dir(root);
    let failed = |source: std::io::Error| CgroupError::Lock { path: path.clone(), source };
    let mut source = std::io::Error::from(std::io::ErrorKind::NotFound);
    for _ in 0..MAX_TRIES {
        make_path(hierarchy, root, created)?;
        let fd = match interface::open_dir(&path) {
            Ok(fd) => fd,
            Err(CgroupError::Open { source: e, .. }) if e.kind() == std::io::ErrorKind::NotFound => {
                source = e;
                continue;
            }
            Err(e) => return Err(e),
        };
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(CgroupError::RootTaken { path }),
            Err(e) => return Err(failed(e.into())),
        }
        let held = rustix::fs::fstat(&fd).map_err(|e| failed(e.into()))?;
        if rustix::fs::stat(&path).is_ok_and(|now| (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino)) {
            return Ok(fd);
        }
    }
    Err(failed(source))
}

/// `default_root`, below the own v2 group for a user who is not root: only there can it have been delegated.
pub(super) fn default_below(layout: &Layout, own: &str, default_root: &str) -> String {
    if rustix::process::geteuid().is_root() {
        return default_root.to_owned();
    }
    let v2 = layout.hierarchies.iter().find(|h| h.version == Version::V2);
    let group = v2.and_then(|h| detect::own_group(own, h)).unwrap_or_default();
    format!("{}{default_root}", group.trim_end_matches('/'))
}

/// An absolute path of clean parts, none of which can be an interface file.
pub(super) fn check_root(root: &str) -> Result<(), CgroupError> {
    let bad = |why| Err(CgroupError::BadRoot { path: root.chars().take(200).collect(), why });
    let Some(rest) = root.strip_prefix('/') else { return bad("it does not begin with /") };
    if rest.is_empty() {
        return bad("it is the whole hierarchy");
    }
    if root.len() > 1024 {
        return bad("it is longer than 1024 bytes");
    }
    for part in rest.split('/') {
        match part {
            "" => return bad("it has an empty part"),
            "." | ".." => return bad("it has a part . or .."),
            p if p.len() > 255 => return bad("a part is longer than 255 bytes"),
            p if p.chars().any(char::is_control) => return bad("it has a control character"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_could_lead_elsewhere_is_refused() {
        for bad in ["", "/", "a", "/a/", "//a", "/a/../b", "/a/.", "/a\nb", &format!("/{}", "x".repeat(256))] {
            assert!(matches!(check_root(bad), Err(CgroupError::BadRoot { .. })), "{bad:?} was accepted");
        }
        for good in ["/a", "/rbee-hive/0123456789ab", "/user.slice/x.scope/y"] {
            assert!(check_root(good).is_ok(), "{good:?} was refused");
        }
    }
}
