//! `/dev` with exactly the granted nodes, each bound from the host and checked by its number, and `/dev/shm`.

use std::path::Path;

use nix::mount::MsFlags;
use rbee_hive_policy::{DeviceKind, DeviceNode};
use rbee_hive_sys::mount::Attributes;
use rustix::fs::{FileType, major, minor};

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
    let options = format!("{},mode=1777", bounds(context.plan.shm_size));
    tmpfs(context, "/dev/shm", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &options)
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
