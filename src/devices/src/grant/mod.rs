//! What a worker gets for the devices that it leased: CPUs, nodes, variables.
//!
//! Must never know who leased them, nor whether they are free: the table has decided that.

mod near;
mod variables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::inventory::HOST;
use crate::{Gpu, Inventory, NumaNode, Vendor};

pub use near::Near;
use variables::variables;

/// Everything that a lease means for a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// CPUs, in list format; `None` where the lease pins none (a GPU).
    pub cpuset: Option<String>,
    /// NUMA nodes, in list format.
    pub mems: Option<String>,
    /// Nodes of the leased GPUs, which nobody else gets.
    pub exclusive: Vec<PathBuf>,
    /// Nodes that all GPUs share.
    pub shared: Vec<PathBuf>,
    /// Files of the drivers that the leased GPUs' workers need to see, from the host's path to the one inside; read-only.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Variables.
    pub env: BTreeMap<String, String>,
}

/// A name that is no device here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no device {name}; this host has {there}")]
pub struct GrantError {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub there: String,
}

impl Inventory {
    /// The grant for canonical names such as `["CPU-0"]` or `["GPU-0", "GPU-1"]`; one that is there twice counts once.
    ///
    /// Errors: a name that is none of [`Inventory::names`].
    pub fn grant(&self, leased: &[String]) -> Result<Grant, GrantError> {
        let (mut nodes, mut gpus) = (Vec::<&NumaNode>::new(), Vec::<&Gpu>::new());
        for (at, name) in leased.iter().enumerate() {
            if leased[..at].contains(name) {
                continue;
            }
            // Compared as text: `GPU-+0` and `GPU-00` are spellings of a request, not names.
            let node = self.nodes.iter().find(|n| format!("CPU-{}", n.id) == *name);
            match (node, self.gpus.iter().find(|g| format!("GPU-{}", g.index) == *name)) {
                (Some(node), _) => nodes.push(node),
                (None, Some(gpu)) => gpus.push(gpu),
                (None, None) => return Err(GrantError { name: name.clone(), there: self.names().join(", ") }),
            }
        }
        Ok(Grant {
            cpuset: list(nodes.iter().filter_map(|n| self.pinnable_cpus(n))),
            mems: list(nodes.iter().filter(|n| self.has_memory(n)).map(|n| n.id)),
            exclusive: gpus.iter().flat_map(|g| self.own_nodes(g)).collect(),
            shared: self.shared_by(&gpus),
            env: variables(self, &gpus),
            mounts: mounts(&gpus),
        })
    }

    /// Nodes that nobody else gets. Parts of one GPU have their parent's node in common; what tells them apart are their capability nodes.
    fn own_nodes(&self, gpu: &Gpu) -> Vec<PathBuf> {
        let common = self.parents_nodes(gpu);
        gpu.nodes.iter().filter(|node| !common.contains(node)).cloned().collect()
    }

    fn parents_nodes<'g>(&'g self, gpu: &'g Gpu) -> Vec<&'g PathBuf> {
        let Some(part) = &gpu.mig else { return vec![] };
        match self.gpu(part.parent) {
            Some(parent) => gpu.nodes.iter().filter(|node| parent.nodes.contains(node)).collect(),
            None => gpu.nodes.iter().filter(|node| !node.starts_with("/dev/nvidia-caps")).collect(),
        }
    }

    /// What these GPUs share: on a real host an NVIDIA worker has no business with AMD's node, in a simulation all share all.
    fn shared_by(&self, gpus: &[&Gpu]) -> Vec<PathBuf> {
        let amd = gpus.iter().any(|g| g.vendor == Vendor::Amd);
        let nvidia = gpus.iter().any(|g| g.vendor == Vendor::Nvidia);
        let real = self.source == HOST;
        let wanted = |node: &&PathBuf| match node.to_string_lossy() {
            _ if !real => !gpus.is_empty(),
            path if path == "/dev/kfd" => amd,
            path if path.starts_with("/dev/nvidia") => nvidia,
            _ => !gpus.is_empty(),
        };
        let mut shared: Vec<PathBuf> = self.shared.iter().filter(wanted).cloned().collect();
        for node in gpus.iter().flat_map(|gpu| self.parents_nodes(gpu)) {
            if !shared.contains(node) {
                shared.push(node.clone());
            }
        }
        shared
    }

    /// Names of everything that can be leased.
    pub fn names(&self) -> Vec<String> {
        let cpus = self.nodes.iter().map(|n| format!("CPU-{}", n.id));
        cpus.chain(self.gpus.iter().map(|g| format!("GPU-{}", g.index))).collect()
    }
}

/// Their drivers' files, each place once: GPUs of one vendor have the same.
fn mounts(gpus: &[&Gpu]) -> Vec<(PathBuf, PathBuf)> {
    let mut mounts: Vec<(PathBuf, PathBuf)> = Vec::new();
    for mount in gpus.iter().flat_map(|gpu| &gpu.mounts) {
        if !mounts.iter().any(|(_, inside)| *inside == mount.inside) {
            mounts.push((mount.host.clone(), mount.inside.clone()));
        }
    }
    mounts
}

/// Comma-joined; `None` where there is nothing.
fn list<T: ToString>(parts: impl Iterator<Item = T>) -> Option<String> {
    let parts: Vec<String> = parts.map(|p| p.to_string()).collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

#[cfg(test)]
mod tests;
