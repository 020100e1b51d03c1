//! CDI specs (`/etc/cdi`, `/var/run/cdi`): what a vendor's tool says a container needs beside a GPU's own node.
//!
//! A source of nodes and of the driver's files, and of nothing else: hooks are programs that would run with our privileges, and variables
//! are set by what was leased. Both are told in the notes and left out. A spec can widen nothing: a node of another GPU, or one that
//! nobody may have, is refused by name. Must never know who reads: hive and launcher come to the same.

mod edits;
mod files;
mod merge;
mod spec;
mod yaml;

use std::path::{Path, PathBuf};

use crate::{DriverMount, Inventory};

/// Where specs lie, the later one's devices before the earlier one's.
pub(crate) const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Adds what the specs of this host say to the GPUs that they name. `root` is `/`.
pub(crate) fn apply(root: &Path, inventory: &mut Inventory) {
    // Without a GPU there is nothing to add to, and nothing to complain about.
    if inventory.gpus.is_empty() {
        return;
    }
    let mut notes = Vec::new();
    let specs = files::read_all(root, &mut notes);
    merge::apply(root, inventory, &specs, &mut notes);
    inventory.notes.extend(notes);
}

/// A driver's file as a spec would name it, with the same rules.
///
/// Errors: why it is not granted.
pub(crate) fn driver_mount(host: PathBuf, inside: PathBuf) -> Result<DriverMount, &'static str> {
    edits::mount(&spec::Mount { host_path: host, container_path: inside, options: vec![] })
}
