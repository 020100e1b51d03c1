//! A tree of mounts on its way from the host into a sandbox.
//!
//! Two ways, chosen by asking the kernel: open_tree(2), mount_setattr(2) and move_mount(2), by descriptor from end to end;
//! and mount(2) with MS_BIND, where one of those is not there (before Linux 5.2, and 5.12 for attributes) or a filter above us denies it,
//! as container engines' profiles do. The second way names both ends by descriptor as well, through `/proc/self/fd`.
//!
//! Must never know: what is mounted, and why.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rbee_hive_sys::mount::{Attributes, has_setattr, set_recursive};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::step::{CallError, failed};

/// What this process can make of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MountApi {
    /// open_tree(2) and move_mount(2).
    trees: bool,
    /// mount_setattr(2).
    attributes: bool,
}

/// A tree that can be attached once.
#[derive(Debug)]
pub(crate) enum Tree {
    /// A copy that is attached nowhere.
    Detached(OwnedFd),
    /// The place itself, in this process's mount namespace: it is copied when it is attached.
    Place(OwnedFd),
    /// Opened in the launcher's mount namespace, from where nothing can be copied: looked up again by name, and compared.
    Named {
        /// What must be found there.
        opened: OwnedFd,
        /// Where; it holds no link.
        path: PathBuf,
    },
}

impl MountApi {
    /// Asks the kernel by calls that can't do anything.
    pub(crate) fn probe() -> Self {
        let there = |answer: Result<(), Errno>| !matches!(answer, Err(Errno::NOSYS | Errno::PERM));
        let open = open_tree(CWD, "", OpenTreeFlags::OPEN_TREE_CLOEXEC).map(drop);
        let attach = move_mount(CWD, "", CWD, "", MoveMountFlags::empty());
        Self { trees: there(open) && there(attach), attributes: has_setattr() }
    }

    /// For people.
    pub(crate) fn describe(self) -> &'static str {
        match (self.trees, self.attributes) {
            (true, true) => "mounts go by descriptor: open_tree, mount_setattr, move_mount",
            (true, false) => "mounts go by descriptor, their flags by remounting: mount_setattr (5.12) is missing or denied",
            (false, _) => "mounts go by mount(2): open_tree or move_mount (5.2) is missing or denied",
        }
    }

    /// The mounts at `path` below `directory`, the submounts included. `path` may be empty: `directory` itself.
    pub(crate) fn tree(self, directory: BorrowedFd<'_>, path: &Path) -> Result<Tree, Errno> {
        if !self.trees {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            return match path.as_os_str().is_empty() {
                true => directory.try_clone_to_owned().map(Tree::Place).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::MFILE)),
                false => rustix::fs::openat(directory, path, flags, Mode::empty()).map(Tree::Place),
            };
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let flags = if path.as_os_str().is_empty() { flags | OpenTreeFlags::AT_EMPTY_PATH } else { flags };
        open_tree(directory, path, flags).map(Tree::Detached)
    }

    /// The mounts at an absolute path of this process's root.
    pub(crate) fn tree_at(self, path: &Path) -> Result<Tree, Errno> {
        self.tree(CWD.as_fd(), path)
    }

    /// For another mount namespace: a copy where the kernel can hand one over, else the name.
    pub(crate) fn tree_to_hand_over(self, opened: &OwnedFd) -> io::Result<Tree> {
        if self.trees {
            return Ok(self.tree(opened.as_fd(), Path::new(""))?);
        }
        Ok(Tree::Named { opened: opened.try_clone()?, path: std::fs::read_link(by_descriptor(opened.as_fd()))? })
    }

    /// Attaches `tree` over `target`, with `attributes` on all of it, and hears of nothing that is mounted outside from then on.
    /// `shown` is the place's name in errors.
    pub(crate) fn attach(self, tree: Tree, target: BorrowedFd<'_>, (shown, attributes): (&Path, Attributes)) -> Result<(), CallError> {
        let (fd, copied) = self.ready(tree)?;
        if !copied {
            bind(fd.as_fd(), target, shown)?;
            return confine_by_path(target, shown, attributes);
        }
        if self.attributes {
            set_recursive(fd.as_fd(), attributes).map_err(failed(|| format!("mount_setattr({shown:?})")))?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&fd, "", target, "", flags).map_err(failed(|| format!("move_mount({shown:?})")))?;
        if self.attributes { Ok(()) } else { confine_by_path(target, shown, attributes) }
    }

    /// The descriptor to attach from, and whether it is a copy already.
    fn ready(self, tree: Tree) -> Result<(OwnedFd, bool), CallError> {
        match tree {
            Tree::Detached(fd) => Ok((fd, true)),
            Tree::Place(fd) => Ok((fd, false)),
            Tree::Named { opened, path } => {
                let place = look_up_again(&opened, &path)?;
                match self.tree(place.as_fd(), Path::new("")).map_err(failed(|| format!("open_tree({path:?})")))? {
                    Tree::Detached(fd) => Ok((fd, true)),
                    _ => Ok((place, false)),
                }
            }
        }
    }
}

impl Tree {
    /// Type, owner and number of what it shows.
    pub(crate) fn stat(&self) -> Result<Stat, CallError> {
        stat_of(match self {
            Self::Detached(fd) | Self::Place(fd) | Self::Named { opened: fd, .. } => fd,
        })
    }

    /// Shows it with other owners, by the map of `user_namespace`. Errors: `EOPNOTSUPP` for what is no copy yet, the kernel's.
    pub(crate) fn map_ids(&self, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Self::Detached(fd) => rbee_hive_sys::mount::map_ids(fd.as_fd(), user_namespace),
            _ => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        }
    }

    /// Whether it is attached over a directory.
    pub(crate) fn is_directory(&self) -> Result<bool, CallError> {
        Ok(FileType::from_raw_mode(self.stat()?.st_mode).is_dir())
    }

    /// Its descriptors, for the list that an init keeps.
    pub(crate) fn as_raw_fd(&self) -> i32 {
        match self {
            Self::Detached(fd) | Self::Place(fd) | Self::Named { opened: fd, .. } => fd.as_raw_fd(),
        }
    }
}

/// A path that names what `fd` is open on, and nothing else, for calls that take only paths (proc(5)).
pub(crate) fn by_descriptor(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn stat_of(fd: &OwnedFd) -> Result<Stat, CallError> {
    statat(fd, "", AtFlags::EMPTY_PATH).map_err(failed(|| "fstat(mount)".into()))
}

fn look_up_again(opened: &OwnedFd, path: &Path) -> Result<OwnedFd, CallError> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let place = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(failed(|| format!("openat2({path:?}, RESOLVE_NO_SYMLINKS)")))?;
    let (before, now) = (stat_of(opened)?, stat_of(&place)?);
    if (before.st_dev, before.st_ino) == (now.st_dev, now.st_ino) {
        return Ok(place);
    }
    Err(CallError::new(format!("compare({path:?})"), Errno::STALE).hint("it was replaced while the worker was being started: try again"))
}

fn bind(source: BorrowedFd<'_>, target: BorrowedFd<'_>, shown: &Path) -> Result<(), CallError> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&by_descriptor(source)), &by_descriptor(target), None::<&str>, flags, None::<&str>)
        .map_err(failed(|| format!("mount({shown:?}, MS_BIND|MS_REC)")))
}

/// A remount for each mount of the tree that has just been attached over `target`.
fn confine_by_path(target: BorrowedFd<'_>, shown: &Path, attributes: Attributes) -> Result<(), CallError> {
    // The name under which this process reaches the target is the mount point's in mountinfo.
    let top = std::fs::read_link(by_descriptor(target)).map_err(failed(|| format!("readlink({shown:?})")))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, &top, None::<&str>, private, None::<&str>).map_err(failed(|| format!("mount({shown:?}, MS_REC|MS_PRIVATE)")))?;
    if attributes == Attributes::INHERITED {
        return Ok(());
    }
    for (point, inherited) in mounts_at(&top)? {
        let wanted = MsFlags::from_bits_truncate(attributes.mount_flags() as libc::c_ulong);
        // In a user namespace what a mount came with is locked: a remount without it is refused (mount_namespaces(7)).
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | wanted | inherited;
        mount(None::<&str>, &point, None::<&str>, flags, None::<&str>)
            .map_err(failed(|| format!("mount({point:?}, MS_REMOUNT|MS_BIND, {wanted:?})")))?;
    }
    Ok(())
}

/// Mount points at and below `top`, with the flags that they have.
fn mounts_at(top: &Path) -> Result<Vec<(PathBuf, MsFlags)>, CallError> {
    const NAMES: [(&str, MsFlags); 4] =
        [("ro", MsFlags::MS_RDONLY), ("nosuid", MsFlags::MS_NOSUID), ("nodev", MsFlags::MS_NODEV), ("noexec", MsFlags::MS_NOEXEC)];
    let table = procfs::process::Process::myself().and_then(|p| p.mountinfo());
    let table = table.map_err(|e| CallError::new("read(/proc/self/mountinfo)", io::Error::other(e.to_string())))?;
    let entries = table.iter().map(|entry| {
        let has = |name: &str| entry.mount_options.contains_key(name);
        let flags = NAMES.iter().filter(|(name, _)| has(name)).fold(MsFlags::empty(), |all, (_, flag)| all | *flag);
        (unescaped(&entry.mount_point), flags)
    });
    Ok(entries.filter(|(point, _)| point.starts_with(top)).collect())
}

/// mountinfo writes white space and backslashes as three octal digits (proc_pid_mountinfo(5)).
fn unescaped(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    PathBuf::from(
        [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
            .iter()
            .fold(text.into_owned(), |t, (from, to)| t.replace(from, to)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replaced_since_it_was_opened_is_not_attached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("model");
        std::fs::write(&path, "one").unwrap();
        let opened: OwnedFd = std::fs::File::open(&path).unwrap().into();
        assert!(look_up_again(&opened, &path).is_ok());
        std::fs::rename(&path, dir.path().join("aside")).unwrap();
        std::fs::write(&path, "two").unwrap();
        assert_eq!(look_up_again(&opened, &path).unwrap_err().source.raw_os_error(), Some(libc::ESTALE));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("aside", &path).unwrap();
        assert_eq!(look_up_again(&opened, &path).unwrap_err().source.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn mount_points_are_read_as_they_were_written() {
        assert_eq!(unescaped(Path::new("/a\\040b\\134c")), PathBuf::from("/a b\\c"));
    }
}
