//! A path, walked as the kernel would for the worker: in its root, link by link.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use rbee_hive_policy::learn::{Kind, Use};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, readlinkat, statat};
use rustix::io::Errno;

/// Most links on one way (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Most names on one way; PATH_MAX holds no more, but a link may add.
const MAX_NAMES: usize = 4096;

/// Where a walk came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// To its end.
    There { path: PathBuf, kind: Kind },
    /// Up to `directory`, in which `path` may be made.
    Absent { path: PathBuf, directory: PathBuf },
    /// It is there, but not for what is meant.
    Refused { path: PathBuf },
    /// Nowhere.
    Nowhere,
}

/// A walk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// The links on the way.
    pub(super) links: Vec<PathBuf>,
    pub(super) found: Found,
}

impl Walked {
    /// What is there.
    pub(super) fn there(&self) -> Option<&Path> {
        match &self.found {
            Found::There { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// Walks `path` from `start` for the thread `tid`, with this process's rights to files: whoever calls it has the worker's.
pub(super) fn walk(start: &Path, path: &Path, (what, follow): (Use, bool), tid: u32) -> Walked {
    let mut way = Way { at: if path.is_absolute() { "/".into() } else { start.to_owned() }, links: vec![], tid };
    let found = match way.go(path, follow).unwrap_or(Found::Nowhere) {
        Found::There { path, .. } if refuses(&path, what) => Found::Refused { path },
        Found::Absent { path, directory } if what == Use::Write && !may(&directory, Access::WRITE_OK) => {
            Found::Refused { path: if directory.as_os_str().is_empty() { path } else { directory } }
        }
        other => other,
    };
    Walked { links: way.links, found }
}

fn refuses(path: &Path, what: Use) -> bool {
    match what {
        Use::Look | Use::List => false,
        Use::Read => !may(path, Access::READ_OK),
        Use::Execute => !may(path, Access::EXEC_OK),
        // To remove or rename it, its directory counts.
        Use::Write => !may(path, Access::WRITE_OK) && !path.parent().is_some_and(|p| may(p, Access::WRITE_OK)),
    }
}

fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

struct Way {
    /// Without links.
    at: PathBuf,
    links: Vec<PathBuf>,
    tid: u32,
}

impl Way {
    /// `None`: nowhere.
    fn go(&mut self, path: &Path, follow: bool) -> Option<Found> {
        let mut names = names(path);
        let mut kind = Kind::Directory;
        let mut links = 0;
        for _ in 0..MAX_NAMES {
            let Some(name) = names.pop_front() else {
                return Some(Found::There { path: self.at.clone(), kind });
            };
            if name == ".." {
                self.at.pop();
                continue;
            }
            let next = self.at.join(self.own_name(name));
            let stat = match statat(CWD, &next, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) if names.is_empty() => return Some(Found::Absent { path: next, directory: self.at.clone() }),
                Err(Errno::NOENT) => return Some(Found::Absent { path: rest(next, names), directory: PathBuf::new() }),
                Err(Errno::ACCESS) => return Some(Found::Refused { path: next }),
                Err(_) => return None,
            };
            kind = kind_of(FileType::from_raw_mode(stat.st_mode));
            if kind != Kind::Link || (names.is_empty() && !follow) {
                self.at = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            let target = readlinkat(CWD, &next, vec![]).ok()?;
            let target = PathBuf::from(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(target.into_bytes()));
            self.links.push(next);
            if target.is_absolute() {
                self.at = "/".into();
            }
            for name in self::names(&target).into_iter().rev() {
                names.push_front(name);
            }
        }
        None
    }

    /// `/proc/self` is the thread's, not ours.
    fn own_name(&self, name: OsString) -> OsString {
        let own = self.at == Path::new("/proc") && (name == "self" || name == "thread-self") && self.tid != 0;
        if own { self.tid.to_string().into() } else { name }
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |c: Component<'_>| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn rest(mut path: PathBuf, names: VecDeque<OsString>) -> PathBuf {
    path.extend(names);
    path
}

fn kind_of(file: FileType) -> Kind {
    match file {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        FileType::CharacterDevice | FileType::BlockDevice => Kind::Device,
        _ => Kind::File,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(path: &Path, follow: bool) -> Walked {
        super::walk(Path::new("/"), path, (Use::Read, follow), std::process::id())
    }

    #[test]
    fn links_are_followed_and_noted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", root.join("near")).unwrap();
        std::os::unix::fs::symlink(root.join("near/file"), root.join("far")).unwrap();
        let want = Found::There { path: root.join("real/file"), kind: Kind::File };
        assert_eq!(walk(&root.join("far"), true), Walked { links: vec![root.join("far"), root.join("near")], found: want });
        let link = Found::There { path: root.join("far"), kind: Kind::Link };
        assert_eq!(walk(&root.join("far"), false), Walked { links: vec![], found: link });
        let up = Found::There { path: root.join("real"), kind: Kind::Directory };
        assert_eq!(walk(&root.join("near/../real/."), true).found, up);
    }

    #[test]
    fn what_is_not_there_names_where_it_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let absent = |path: &str, directory: PathBuf| Found::Absent { path: root.join(path), directory };
        assert_eq!(walk(&root.join("new"), true).found, absent("new", root.clone()));
        assert_eq!(walk(&root.join("a/b/c"), true).found, absent("a/b/c", PathBuf::new()));
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        assert_eq!(walk(&root.join("loop"), true).found, Found::Nowhere);
    }

    #[test]
    fn the_process_that_asks_is_the_one_that_is_meant() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let walked = super::walk(Path::new("/"), Path::new("/proc/self/exe"), (Use::Look, true), child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(walked.there().is_some_and(|p| p.file_name().is_some_and(|n| n != "self")), "{walked:?}");
        assert_ne!(walked.there(), Some(std::env::current_exe().unwrap().as_path()));
    }
}
