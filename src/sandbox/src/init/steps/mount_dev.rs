//! `/dev` with exactly the granted nodes, each bound from the host and checked by its number, and `/dev/shm`.

use std::path::Path;

use nix::mount::MsFlags;
use rbee_hive_policy::{DeviceKind, DeviceNode, MpsPlan};
use rbee_hive_sys::mount::Attributes;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chownat, major, minor, mkdirat};
use rustix::io::Errno;

use super::mount_scratch::{bounds, tmpfs};
use crate::init::InitContext;
use crate::mount_tree::Tree;
use crate::step::{CallError, failed};

const LINKS: [(&str, &str); 4] = [("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "fd/0"), ("/dev/stdout", "fd/1"), ("/dev/stderr", "fd/2")];

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let root = context.new_root()?;
    for (path, target) in LINKS {
        root.symlink(Path::new(path), Path::new(target))?;
    }
    for node in &context.plan.devices {
        let tree = root.api().tree_at(&node.path).map_err(failed(|| format!("open_tree({:?})", node.path)))?;
        check_number(&tree, node)?;
        root.attach(tree, &node.path, Attributes::NOSUID.and(Attributes::NOEXEC))?;
    }
    shm(context)
}

/// Its own, or that of its MPS group.
fn shm(context: &mut InitContext) -> Result<(), CallError> {
    let shm = Path::new("/dev/shm");
    if let Some(MpsPlan::Client { shm: index, .. }) = context.plan.mps {
        let gone = || failed(|| format!("take(opened {index})"))(Errno::BADF);
        let tree = context.trees.get_mut(index).and_then(Option::take).ok_or_else(gone)?;
        return context.new_root()?.attach(tree, shm, Attributes::NOSUID.and(Attributes::NODEV));
    }
    let options = format!("{},mode=1777", bounds(context.plan.shm_size));
    tmpfs(context, "/dev/shm", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &options)?;
    match context.plan.mps {
        Some(MpsPlan::Server) => make_pipes(context, shm),
        _ => Ok(()),
    }
}

/// Where the daemon puts its sockets: it makes files there, and not the directory.
fn make_pipes(context: &InitContext, shm: &Path) -> Result<(), CallError> {
    let Some(name) = context.plan.socket.as_deref().and_then(Path::parent).and_then(Path::file_name) else { return Ok(()) };
    let directory = context.new_root()?.open(shm).map_err(failed(|| format!("openat2({shm:?})")))?;
    mkdirat(&directory, name, Mode::from_raw_mode(0o700)).map_err(failed(|| format!("mkdir({:?})", shm.join(name))))?;
    let (uid, gid) = (Uid::from_raw(context.plan.credentials.uid), Gid::from_raw(context.plan.credentials.gid));
    chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed(|| format!("chown({:?})", shm.join(name))))
}

/// The node that is bound must be the device that was granted: the path may have changed hands since.
fn check_number(tree: &Tree, node: &DeviceNode) -> Result<(), CallError> {
    let stat = tree.stat()?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Some(DeviceKind::Char),
        FileType::BlockDevice => Some(DeviceKind::Block),
        _ => None,
    };
    let found = (kind, major(stat.st_rdev), minor(stat.st_rdev));
    if found == (Some(node.kind), node.major, node.minor) {
        return Ok(());
    }
    let stranger = std::io::Error::from_raw_os_error(libc::ENODEV);
    Err(CallError::new(format!("compare({:?}, {}:{})", node.path, node.major, node.minor), stranger)
        .hint("the node was replaced since the devices were listed; start the hive again"))
}
