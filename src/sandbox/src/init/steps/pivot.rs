//! The new root becomes the root, the old one is gone, and the new one is sealed.

use nix::mount::{MntFlags, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::init::InitContext;
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let staging = context.staging.clone();
    chdir(&staging).map_err(failed(|| format!("chdir({staging:?})")))?;
    // The old root lands on top of the new one's "." and is detached from there: no directory is needed for it (pivot_root(2)).
    pivot_root(".", ".").map_err(failed(|| "pivot_root(\".\", \".\")".into()))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failed(|| "umount2(\".\", MNT_DETACH)".into()))?;
    chdir("/").map_err(failed(|| "chdir(\"/\")".into()))?;
    if let Some(root) = context.root.as_mut() {
        root.forget_base();
    }
    Ok(())
}

pub(super) fn seal(context: &mut InitContext) -> Result<(), CallError> {
    context.new_root()?.seal()?;
    context.root = None;
    Ok(())
}
