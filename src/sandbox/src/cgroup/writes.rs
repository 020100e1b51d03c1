//! Whether bounds of block I/O hold all writes of a group.

use super::tree::Tree;

impl Tree {
    /// Why most writes go past a bound of them; `None` where they are held to it.
    ///
    /// A buffered write is written back by the kernel later, for the group that the page is charged to: only where both controllers are on
    /// the v2 tree (inode_cgwb_enabled in include/linux/backing-dev.h).
    pub fn loose_writes(&self) -> Option<String> {
        let on_v1 = ["blkio", "memory"].into_iter().find(|controller| self.v1(controller).is_some())?;
        Some(format!("with the {on_v1} controller on cgroup v1 the kernel writes back what was buffered for no group"))
    }
}
