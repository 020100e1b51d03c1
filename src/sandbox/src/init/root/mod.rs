//! The new root while it is being made: a small tmpfs, with mounts attached by descriptor.
//!
//! Every target is looked up inside the new root (RESOLVE_IN_ROOT), so a link in something bound earlier leads nowhere else. What lies on a
//! directory that the policy names as the root is the business of [`base`].

mod base;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rbee_hive_sys::mount::Attributes;
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2, symlinkat};
use rustix::io::Errno;

use crate::mount_tree::{MountApi, Tree, by_descriptor};
use crate::step::{CallError, failed};

/// The root of the sandbox until it is sealed.
pub(crate) struct NewRoot {
    fd: OwnedFd,
    api: MountApi,
    /// The directory that the policy names, where it names one. Nothing is ever written to it.
    base: Option<OwnedFd>,
    /// File systems of ours that hold mount points: they are made read-only in the end.
    skeletons: RefCell<Vec<PathBuf>>,
}

impl NewRoot {
    /// Takes the file system that is mounted at `path`.
    pub(crate) fn at(path: &Path, api: MountApi) -> Result<Self, CallError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(failed(|| format!("open({path:?}, O_PATH)")))?;
        Ok(Self { fd, api, base: None, skeletons: RefCell::new(vec!["/".into()]) })
    }

    /// How trees are taken from the host.
    pub(crate) fn api(&self) -> MountApi {
        self.api
    }

    /// Opens `inside` without following it out of the root; where the policy names the root, no link is followed at all.
    pub(crate) fn open(&self, inside: &Path) -> Result<OwnedFd, Errno> {
        let links = if self.base.is_some() { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | links;
        openat2(&self.fd, relative(inside), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Makes the directory `inside` with its parents (mode 0755) where it is not there yet, and opens it.
    pub(crate) fn make_dir(&self, inside: &Path) -> Result<OwnedFd, CallError> {
        let mut reached = PathBuf::from("/");
        let mut directory = self.open(&reached).map_err(failed(|| "openat2(new root)".into()))?;
        for part in inside.components() {
            let Component::Normal(name) = part else { continue };
            let above = reached.clone();
            reached.push(name);
            directory = match self.open(&reached) {
                Err(Errno::NOENT) => {
                    let parent = self.writable(&above, directory)?;
                    mkdirat(&parent, name, Mode::from_raw_mode(0o755)).map_err(failed(|| format!("mkdir({reached:?})")))?;
                    self.open(&reached)
                }
                other => other,
            }
            .map_err(|e| not_a_target(&reached, e))?;
        }
        Ok(directory)
    }

    /// Makes an empty file `inside` to mount over, with its parents, unless something is there already.
    pub(crate) fn make_file(&self, inside: &Path) -> Result<OwnedFd, CallError> {
        match self.open(inside) {
            Ok(there) => return Ok(there),
            Err(e @ Errno::LOOP) => return Err(not_a_target(inside, e)),
            Err(_) => {}
        }
        self.write_file(inside, b"")?;
        self.open(inside).map_err(|e| not_a_target(inside, e))
    }

    /// Writes a new file `inside` (mode 0644).
    pub(crate) fn write_file(&self, inside: &Path, text: &[u8]) -> Result<(), CallError> {
        let (parent, name) = self.parent_of(inside)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))
            .map_err(failed(|| format!("open({inside:?}, O_CREAT)")))?;
        File::from(file).write_all(text).map_err(failed(|| format!("write({inside:?})")))
    }

    /// Makes the symbolic link `inside` → `target`.
    pub(crate) fn symlink(&self, inside: &Path, target: &Path) -> Result<(), CallError> {
        let (parent, name) = self.parent_of(inside)?;
        symlinkat(target, &parent, name).map_err(failed(|| format!("symlink({target:?}, {inside:?})")))
    }

    fn parent_of<'a>(&self, inside: &'a Path) -> Result<(OwnedFd, &'a OsStr), CallError> {
        let invalid = || CallError::new(format!("split({inside:?})"), io::Error::from_raw_os_error(libc::EINVAL));
        let name = inside.file_name().ok_or_else(invalid)?;
        let above = inside.parent().ok_or_else(invalid)?;
        let parent = self.writable(above, self.make_dir(above)?)?;
        Ok((parent, name))
    }

    /// Attaches `tree` at `inside`, with `attributes` on all of it.
    pub(crate) fn attach(&self, tree: Tree, inside: &Path, attributes: Attributes) -> Result<(), CallError> {
        let target = if tree.is_directory()? { self.make_dir(inside)? } else { self.make_file(inside)? };
        self.api.attach(tree, target.as_fd(), (inside, attributes))
    }

    /// Mounts a new file system of kind `kind` over the directory `inside`, making it.
    ///
    /// By the directory's descriptor: what lies on the way to it by name is not asked again.
    pub(crate) fn mount_new(&self, kind: &str, inside: &Path, (flags, options): (MsFlags, &str)) -> Result<(), CallError> {
        let target = self.make_dir(inside)?;
        mount(Some(kind), &by_descriptor(target.as_fd()), Some(kind), flags, Some(options))
            .map_err(failed(|| format!("mount({kind:?}, {inside:?}, {options:?})")))
    }

    /// Makes everything read-only that was made for mount points alone. The paths are the worker's: this comes after the pivot.
    pub(crate) fn seal(&self) -> Result<(), CallError> {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        for path in self.skeletons.borrow().iter() {
            mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
                .map_err(failed(|| format!("mount({path:?}, MS_REMOUNT|MS_RDONLY)")))?;
        }
        Ok(())
    }
}

/// `inside` for a look-up that begins at the root's descriptor.
fn relative(inside: &Path) -> &Path {
    let relative = inside.strip_prefix("/").unwrap_or(inside);
    if relative.as_os_str().is_empty() { Path::new(".") } else { relative }
}

fn not_a_target(inside: &Path, error: Errno) -> CallError {
    let refused = CallError::new(format!("openat2({inside:?})"), error);
    match error {
        Errno::LOOP => {
            refused.hint("it, or something on the way to it, is a symbolic link in the root directory: make it a real one, or remove it")
        }
        _ => refused,
    }
}
