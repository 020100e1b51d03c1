//! The plan's binds in order: the read-only system, then libraries, the binary, the model.

use std::os::fd::AsFd;
use std::path::Path;

use rbee_hive_policy::{Bind, BindSource};
use rbee_hive_sys::mount::Attributes;
use rustix::io::Errno;

use crate::init::InitContext;
use crate::init::host_path::{LinksOf, open};
use crate::mount_tree::Tree;
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    for (path, target) in &context.plan.symlinks {
        context.new_root()?.symlink(path, target)?;
    }
    for bind in context.plan.binds.clone() {
        let Some(tree) = tree_of(context, &bind)? else { continue };
        let safe = Attributes::NOSUID.and(Attributes::NODEV);
        let attributes = if bind.writable { safe } else { safe.and(Attributes::RDONLY) };
        context.new_root()?.attach(tree, &bind.target, attributes)?;
    }
    Ok(())
}

fn tree_of(context: &mut InitContext, bind: &Bind) -> Result<Option<Tree>, CallError> {
    match &bind.source {
        BindSource::Path { path } => match open(path, links_of(context)).and_then(|fd| context.mounts.tree(fd.as_fd(), Path::new(""))) {
            Ok(tree) => Ok(Some(tree)),
            Err(Errno::NOENT) if bind.optional => Ok(None),
            Err(Errno::LOOP) => Err(CallError::new(format!("open({path:?})"), Errno::LOOP).hint(
                "a link on the way lies where others can write: name what it leads to, or chmod go-w (and chown root) its directory",
            )),
            Err(e) => Err(CallError::new(format!("open_tree({path:?})"), e)
                .hint("take the path out of the policy, or write { path = …, optional = true }")),
        },
        BindSource::Opened { index } => match context.trees.get_mut(*index).and_then(Option::take) {
            Some(tree) => Ok(Some(tree)),
            None => Err(failed(|| format!("take(opened {index})"))(Errno::BADF)),
        },
    }
}

fn links_of(context: &InitContext) -> LinksOf {
    if context.plan.user_namespace { LinksOf::User } else { LinksOf::Root }
}
