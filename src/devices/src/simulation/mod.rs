//! `--devices FILE`: devices that are not there, with character devices as stand-ins, and what becomes of them while the hive runs.
//!
//! ```toml
//! [[node]]                           # replaces the machine's NUMA nodes; without any they stay the machine's own
//! id = 0
//! cpus = "0"                         # CPUs that this host has, each in one node
//! memory = "256GiB"
//! distances = { 0 = 10, 1 = 21 }     # from its CPUs to the memory of each node
//! package = 0                        # the socket; its own number where it is left out
//! smt_siblings = ["0,4"]             # the machine's own where it is left out
//! simulated = true                   # for placement alone: the CPUs may be any, and nothing is pinned to them
//!
//! [[gpu]]
//! index = 0
//! uuid = "GPU-5c0e3b1a-0000-4000-8000-000000000000"
//! vendor = "nvidia"                  # "amd", "intel"
//! name = "Simulated 80 GiB"
//! memory = "80GiB"
//! pci = "0000:01:00.0"
//! numa_node = 0
//! nodes = ["/dev/full"]              # its own nodes; what all GPUs share goes under [shared] nodes
//! links = { 1 = "nvlink" }           # to GPU 1
//! driver = "nvidia 570.1"
//! mounts = [{ host = "/usr/lib/a.so", inside = "/usr/lib/a.so" }]
//! # The rest is what the observer reads anew each time: write the file beside and rename it.
//! memory_used = "1GiB"
//! processes = [{ pid = 4242, memory = "1GiB" }]
//! xid = [{ code = 79, pid = 4242, id = "first" }]   # told once for each id
//! hangs = true                       # its driver does not answer
//! gone = true                        # it fell off the bus
//!
//! [[gpu.mig]]                        # a part: the GPU itself can't be leased then; indices follow after all whole GPUs
//! gpu_instance = 1
//! compute_instance = 0
//! uuid = "MIG-…"
//! profile = "1g.10gb"
//! memory = "10GiB"
//! nodes = ["/dev/zero"]              # its capability nodes
//! memory_used = "1GiB"
//! processes = [{ pid = 4242 }]
//! ```

mod facts;
mod gpu;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::{Gpu, Inventory};

pub(crate) use facts::Facts;

/// A simulation that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct SimulationError {
    /// The file.
    pub file: String,
    /// What is wrong, with its line.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    node: Vec<node::Raw>,
    #[serde(default)]
    gpu: Vec<gpu::Raw>,
    #[serde(default)]
    shared: Shared,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Shared {
    nodes: Vec<PathBuf>,
}

/// What a file says, without this machine.
pub(crate) struct Simulated {
    nodes: Vec<node::Raw>,
    gpus: Vec<Gpu>,
    shared: Vec<PathBuf>,
    /// What changes, by index.
    pub(crate) facts: BTreeMap<u32, Facts>,
}

impl Simulated {
    /// The content `text` of `file`.
    ///
    /// Errors: no TOML, an unknown key, two devices with one index or UUID, a value that no device can have, a node outside `/dev`.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Self, SimulationError> {
        let wrong = |message: String| SimulationError { file: file.to_owned(), message };
        let mut parsed: File = toml::from_str(text).map_err(|e| wrong(e.to_string().trim().to_owned()))?;
        node::check(&parsed.node).map_err(wrong)?;
        parsed.gpu.sort_by_key(|g| g.index);
        let ids: BTreeSet<u32> = parsed.node.iter().map(|n| n.id).collect();
        let (gpus, facts) = gpu::all(parsed.gpu).map_err(wrong)?;
        if let Some(gpu) = gpus.iter().find(|g| !ids.is_empty() && g.numa_node.is_some_and(|n| !ids.contains(&n))) {
            return Err(wrong(format!("GPU {}: there is no [[node]] {}", gpu.index, gpu.numa_node.unwrap_or_default())));
        }
        if let Some(bad) = parsed.shared.nodes.iter().find(|n| !plain(n)) {
            return Err(wrong(format!("{} is no path below /dev", bad.display())));
        }
        Ok(Self { nodes: parsed.node, gpus, shared: parsed.shared.nodes, facts })
    }
}

impl Inventory {
    /// This machine's CPUs with the GPUs of `text`, the content of `file`, and its NUMA nodes where it has any.
    ///
    /// Errors: no TOML, an unknown key, two devices with one index or UUID, a value that no device can have, a node outside `/dev`, a CPU
    /// that this host lacks in a node that is not marked `simulated`.
    pub fn from_simulation(text: &str, file: &str) -> Result<Self, SimulationError> {
        let simulated = Simulated::parse(text, file)?;
        let mut inventory = Self::probe_cpus(Path::new("/"));
        inventory.notes.push(match simulated.gpus.is_empty() {
            true => format!("no GPU: the simulation {file} names none, and this machine's own are not looked at"),
            false => "the GPUs are simulated".into(),
        });
        if !simulated.nodes.is_empty() {
            node::replace(&mut inventory, simulated.nodes).map_err(|message| SimulationError { file: file.to_owned(), message })?;
            inventory.notes.push("the NUMA nodes are simulated".into());
        }
        Ok(Self { gpus: simulated.gpus, shared: simulated.shared, source: file.to_owned(), ..inventory })
    }
}

/// Below `/dev`, and means what it says: no `..`, no link is followed later.
fn plain(path: &Path) -> bool {
    path.starts_with("/dev")
        && path != Path::new("/dev")
        && path.components().all(|c| !matches!(c, Component::ParentDir | Component::CurDir))
}

/// `80GiB`, `512 MiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let found = units.iter().find_map(|(unit, shift)| text.trim().strip_suffix(unit).map(|n| (n.trim(), *shift)));
    let bytes = found.and_then(|(n, shift)| n.parse::<u64>().ok()?.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("{text:?} is no size such as \"80GiB\""))
}

#[cfg(test)]
mod tests;
