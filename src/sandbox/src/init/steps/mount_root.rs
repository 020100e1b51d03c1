//! The new root: a tmpfs of our own, seen by nobody else.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use rbee_hive_sys::mount::Attributes;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::init::InitContext;
use crate::init::root::NewRoot;
use crate::mount_tree::MountApi;
use crate::step::{CallError, failed};

/// Directories that every root has.
const SKELETON: &[&str] = &["/etc", "/proc", "/sys", "/dev", "/tmp", "/run", "/var"];

/// From here on nothing that this init mounts is seen outside, nor the other way round.
pub(super) fn make_private(_: &mut InitContext) -> Result<(), CallError> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(failed(|| "mount(\"/\", MS_REC|MS_PRIVATE)".into()))
}

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    // Only now may this process mount anything: the answer would have been no before.
    context.mounts = MountApi::probe();
    let base = attach_base(context)?;
    let staging = &context.staging;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    // Small on purpose: it holds directories, links and four text files. It covers the base, which is not to be seen by itself.
    mount(Some("rbee-root"), staging, Some("tmpfs"), flags, Some("size=1m,nr_inodes=4096,mode=755"))
        .map_err(failed(|| format!("mount(\"tmpfs\", {staging:?})")))?;
    let mut root = NewRoot::at(staging, context.mounts)?;
    if let Some(base) = base {
        root.build_on(base)?;
    }
    for directory in SKELETON {
        root.make_dir(Path::new(directory))?;
    }
    context.root = Some(root);
    Ok(())
}

/// Attaches the directory that the policy names as the root, so that parts of it can be bound: nothing can be taken from a mount that is
/// attached nowhere.
fn attach_base(context: &mut InitContext) -> Result<Option<OwnedFd>, CallError> {
    let Some(root) = &context.plan.root else { return Ok(None) };
    let gone = || failed(|| format!("take(opened {})", root.index))(Errno::BADF);
    let tree = context.trees.get_mut(root.index).and_then(Option::take).ok_or_else(gone)?;
    let open = || rustix::fs::open(&context.staging, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let target = open().map_err(failed(|| format!("open({:?}, O_PATH)", context.staging)))?;
    let attributes = Attributes::RDONLY.and(Attributes::NOSUID).and(Attributes::NODEV);
    context.mounts.attach(tree, target.as_fd(), (&root.path, attributes))?;
    open().map(Some).map_err(failed(|| format!("open({:?}, O_PATH)", context.staging)))
}

impl InitContext {
    /// The root being made; an error if no step has mounted it.
    pub(super) fn new_root(&self) -> Result<&NewRoot, CallError> {
        self.root.as_ref().ok_or_else(|| CallError::new("look up the new root", std::io::Error::from_raw_os_error(libc::ENOENT)))
    }
}
