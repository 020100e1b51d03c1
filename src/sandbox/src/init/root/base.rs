//! A directory of the host as the root, read-only, without a byte written to it.
//!
//! ```text
//!  /            tmpfs of ours      made read-only in the end
//!  ├─ bin, usr  bound              from the directory, read-only, nosuid, nodev
//!  ├─ lib       link               made again
//!  ├─ home      tmpfs of ours      where a mount point was missing: rebuilt, with its entries bound
//!  │  └─ worker tmpfs
//!  └─ proc, sys, dev, tmp, run     ours; what the directory has there is not shown
//! ```
//! Mount points that the directory lacks are made in memory and never in it: neither overlayfs nor a writable directory is needed. Whatever
//! has to be mounted over must not be a link (CVE-2019-19921).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rbee_hive_sys::mount::Attributes;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat, symlinkat};
use rustix::io::Errno;

use super::{NewRoot, not_a_target, relative};
use crate::step::{CallError, failed};

/// Made for every sandbox: the directory's own are not shown.
const OWN: [&str; 5] = ["proc", "sys", "dev", "tmp", "run"];
/// Most entries of a directory that is rebuilt: each becomes a mount.
const MAX_ENTRIES: usize = 1024;
/// Of a tmpfs that holds nothing but mount points and links.
const SKELETON: &str = "size=1m,nr_inodes=4096,mode=755";

impl NewRoot {
    /// Shows `base`, which is attached below this root, as the root's content.
    pub(crate) fn build_on(&mut self, base: OwnedFd) -> Result<(), CallError> {
        let top = base.try_clone().map_err(failed(|| "dup(root directory)".into()))?;
        self.base = Some(base);
        self.fill(&top, Path::new("/"))
    }

    /// The directory itself is looked at no more: from here on it is what was bound of it.
    pub(crate) fn forget_base(&mut self) {
        self.base = None;
    }

    /// `directory`, which is `inside`, or what has to be written instead of it where it lies in the base.
    pub(super) fn writable(&self, inside: &Path, directory: OwnedFd) -> Result<OwnedFd, CallError> {
        let Some(base) = &self.base else { return Ok(directory) };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let number = |fd: &OwnedFd| statat(fd, "", AtFlags::EMPTY_PATH).map(|s| (s.st_dev, s.st_ino));
        let same = match openat2(base, relative(inside), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(there) => {
                number(&there).and_then(|there| Ok(there == number(&directory)?)).map_err(failed(|| format!("fstat({inside:?})")))?
            }
            Err(_) => false,
        };
        if !same {
            return Ok(directory);
        }
        self.mount_new("tmpfs", inside, (MsFlags::MS_NOSUID | MsFlags::MS_NODEV, SKELETON))?;
        self.skeletons.borrow_mut().push(inside.to_owned());
        // With what has been mounted in it so far: the descriptor sees below the new tmpfs.
        self.fill(&directory, inside)?;
        self.open(inside).map_err(|e| not_a_target(inside, e))
    }

    /// Shows every file and directory of `source` in the empty directory `inside`, and makes its links again. Devices, sockets and pipes of a
    /// root directory are no part of a worker's system.
    fn fill(&self, source: &OwnedFd, inside: &Path) -> Result<(), CallError> {
        let target = self.open(inside).map_err(|e| not_a_target(inside, e))?;
        for name in entries(source, inside)? {
            let path = inside.join(&name);
            let kind = statat(source, &name, AtFlags::SYMLINK_NOFOLLOW).map(|s| FileType::from_raw_mode(s.st_mode));
            let kind = kind.map_err(failed(|| format!("stat({path:?})")))?;
            let own = inside == Path::new("/") && OWN.iter().any(|own| name == Path::new(own));
            match kind {
                FileType::Symlink if own => return Err(not_a_target(&path, Errno::LOOP)),
                _ if own => {}
                FileType::Symlink => {
                    let to = readlinkat(source, &name, vec![]).map_err(failed(|| format!("readlink({path:?})")))?;
                    symlinkat(&*to, &target, &name).map_err(failed(|| format!("symlink({path:?})")))?;
                }
                FileType::Directory | FileType::RegularFile => {
                    let tree = self.api.tree(source.as_fd(), &name).map_err(failed(|| format!("open_tree({path:?})")))?;
                    self.attach(tree, &path, Attributes::INHERITED)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn entries(source: &OwnedFd, inside: &Path) -> Result<Vec<PathBuf>, CallError> {
    let call = || format!("getdents64({inside:?})");
    let mut names = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(source, ".", flags, Mode::empty()).map_err(failed(call))?;
    for entry in Dir::read_from(&readable).map_err(failed(call))? {
        let entry = entry.map_err(failed(call))?;
        let name = std::os::unix::ffi::OsStrExt::from_bytes(entry.file_name().to_bytes());
        let name: &std::ffi::OsStr = name;
        if name == "." || name == ".." {
            continue;
        }
        if names.len() == MAX_ENTRIES {
            let hint =
                format!("a mount point is missing in {inside:?}, which has more than {MAX_ENTRIES} entries: make it in the root directory");
            return Err(CallError::new(call(), Errno::OVERFLOW).hint(hint));
        }
        names.push(PathBuf::from(name));
    }
    Ok(names)
}
