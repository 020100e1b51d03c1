//! CPUs and memory next to leased GPUs.

use std::collections::BTreeSet;

use super::list;
use crate::Inventory;

/// What is next to GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Near {
    /// CPUs of the nodes that the GPUs are at, in list format; `None` where no GPU's node is known.
    pub cpuset: Option<String>,
    /// Those nodes, as far as they have memory, in list format.
    pub mems: Option<String>,
    /// GPUs that nothing can be placed next to, each with why, in a clause for a person.
    pub unknown: Vec<String>,
}

impl Inventory {
    /// What is next to the GPUs of `leased`, canonical names; others are left out.
    pub fn near(&self, leased: &[String]) -> Near {
        let (mut nodes, mut unknown) = (BTreeSet::new(), Vec::new());
        for gpu in self.gpus.iter().filter(|g| leased.contains(&format!("GPU-{}", g.index))) {
            match gpu.numa_node {
                None => unknown.push(format!("the driver tells no NUMA node of GPU-{}", gpu.index)),
                Some(id) if self.nodes.iter().any(|n| n.id == id && self.pinnable_cpus(n).is_some_and(|cpus| !cpus.is_empty())) => {
                    nodes.insert(id);
                }
                Some(id) => unknown.push(format!("GPU-{} is at NUMA node {id}, which has no CPUs here", gpu.index)),
            }
        }
        let chosen = || self.nodes.iter().filter(|n| nodes.contains(&n.id));
        Near { cpuset: list(chosen().map(|n| &n.cpus)), mems: list(chosen().filter(|n| self.has_memory(n)).map(|n| n.id)), unknown }
    }
}
