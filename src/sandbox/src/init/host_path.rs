//! Opening a path of the host that a policy names, when others may have been at work on the way.
//!
//! A worker that may write a directory can put a link where a later worker's policy expects a directory of its own. So a link is followed
//! only where nobody but root, or but the user whose sandbox this is, can have made it; all others end the walk with ELOOP. Each step is
//! taken from the descriptor of the one before: what was looked at is what is opened.
//!
//! Must never know: what the path is for.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

/// Links that are followed at most, as the kernel does (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Who may have made a link that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinksOf {
    /// Root alone.
    Root,
    /// An ordinary user's own as well: in its user namespace root can't be told from others by number, and its files are its workers' anyhow.
    User,
}

/// Opens the absolute `path` (`O_PATH`).
pub(super) fn open(path: &Path, trusted: LinksOf) -> Result<OwnedFd, Errno> {
    let mut steps = parts(path);
    let mut walked = vec![root()?];
    let mut links = 0;
    while let Some(name) = steps.pop_front() {
        let directory = walked.last().ok_or(Errno::NOENT)?;
        if name == ".." {
            // The parent of the root is the root.
            walked.truncate(walked.len().saturating_sub(1).max(1));
            continue;
        }
        let next = openat(directory, name.as_os_str(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if file_type(&next)? != FileType::Symlink {
            walked.push(next);
            continue;
        }
        links += 1;
        if links > MAX_LINKS || !is_kept_by(directory, trusted)? {
            return Err(Errno::LOOP);
        }
        let target = PathBuf::from(OsString::from_vec(readlinkat(&next, "", Vec::new())?.into_bytes()));
        if target.is_absolute() {
            walked = vec![root()?];
        }
        for part in parts(&target).into_iter().rev() {
            steps.push_front(part);
        }
    }
    walked.pop().ok_or(Errno::NOENT)
}

fn root() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

fn file_type(fd: &OwnedFd) -> Result<FileType, Errno> {
    statat(fd, "", AtFlags::EMPTY_PATH).map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// Whether nobody else can make or change a name in `directory`. A sticky one is no exception: anybody can make a new name in it.
fn is_kept_by(directory: &OwnedFd, trusted: LinksOf) -> Result<bool, Errno> {
    let stat = statat(directory, "", AtFlags::EMPTY_PATH)?;
    Ok(stat.st_mode & 0o022 == 0 && (trusted == LinksOf::User || stat.st_uid == 0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn number(path: &Path, trusted: LinksOf) -> Result<u64, Errno> {
        open(path, trusted).map(|fd| statat(&fd, "", AtFlags::EMPTY_PATH).unwrap().st_ino)
    }

    #[test]
    fn a_link_is_followed_only_where_nobody_else_can_have_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, open_to_all) = (dir.path().join("kept"), dir.path().join("open"));
        for (path, mode) in [(&kept, 0o755), (&open_to_all, 0o1777)] {
            std::fs::create_dir(path).unwrap();
            std::fs::create_dir_all(path.join("real/deep")).unwrap();
            symlink("real", path.join("relative")).unwrap();
            symlink(path.join("relative/../real"), path.join("absolute")).unwrap();
            symlink("endless", path.join("endless")).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let deep = kept.join("real/deep").metadata().unwrap().ino();
        for way in ["real/deep", "relative/deep", "absolute/deep", "relative/../real/deep"] {
            assert_eq!(number(&kept.join(way), LinksOf::User), Ok(deep), "{way}");
        }
        assert_eq!(number(&kept.join("endless"), LinksOf::User), Err(Errno::LOOP));
        assert_eq!(number(&kept.join("absent"), LinksOf::User), Err(Errno::NOENT));
        assert!(number(&open_to_all.join("real/deep"), LinksOf::User).is_ok(), "no link, no question");
        for way in ["relative/deep", "absolute/deep"] {
            assert_eq!(number(&open_to_all.join(way), LinksOf::User), Err(Errno::LOOP), "{way}");
        }
        let mine = kept.metadata().unwrap().uid();
        assert_eq!(number(&kept.join("relative/deep"), LinksOf::Root).is_ok(), mine == 0, "an ordinary user's link is not root's");
    }

    #[test]
    fn the_parent_of_the_root_is_the_root() {
        let root = Path::new("/").metadata().unwrap().ino();
        assert_eq!(number(Path::new("/../../.."), LinksOf::Root), Ok(root));
    }
}
