//! What a worker gets for the devices that it leased: CPUs, nodes, variables.
//!
//! Must never know who leased them, nor whether they are free: the table has decided that.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::inventory::HOST;
use crate::{Gpu, Inventory, NumaNode, Vendor};

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
        // cpuset.mems takes no node without memory (cpuset(7), EINVAL).
        let with_memory = nodes.iter().filter(|n| n.memory_bytes != Some(0));
        Ok(Grant {
            cpuset: list(nodes.iter().map(|n| &n.cpus)),
            mems: list(with_memory.map(|n| n.id)),
            exclusive: gpus.iter().flat_map(|g| g.nodes.clone()).collect(),
            shared: self.shared_by(&gpus),
            env: variables(&gpus),
        })
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
        self.shared.iter().filter(wanted).cloned().collect()
    }

    /// Names of everything that can be leased.
    pub fn names(&self) -> Vec<String> {
        let cpus = self.nodes.iter().map(|n| format!("CPU-{}", n.id));
        cpus.chain(self.gpus.iter().map(|g| format!("GPU-{}", g.index))).collect()
    }
}

/// Comma-joined; `None` where there is nothing.
fn list<T: ToString>(parts: impl Iterator<Item = T>) -> Option<String> {
    let parts: Vec<String> = parts.map(|p| p.to_string()).collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

/// Every vendor's variable is set: an absent one means "all".
///
/// CUDA is told UUIDs. The others count what a process can open, and inside there is nothing but the leased GPUs: the host's index would
/// name one that is not there, for which Vulkan's loader in llama.cpp ends the worker and ROCm shows none. HIP counts what
/// `ROCR_VISIBLE_DEVICES` has left, so that its list begins at 0 whatever that one says.
fn variables(gpus: &[&Gpu]) -> BTreeMap<String, String> {
    let of = |vendor: Vendor| gpus.iter().filter(move |g| g.vendor == vendor);
    let places = |count: usize| list(0..count).unwrap_or_default();
    let nvidia = list(of(Vendor::Nvidia).map(|g| g.uuid.clone().unwrap_or_else(|| g.index.to_string())));
    let amd = places(of(Vendor::Amd).count());
    let amd_uuids: Option<Vec<&str>> = of(Vendor::Amd).map(|g| g.uuid.as_deref()).collect();
    let pairs = [
        ("CUDA_VISIBLE_DEVICES", nvidia.clone().unwrap_or_default()),
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
        ("NVIDIA_VISIBLE_DEVICES", nvidia.unwrap_or_else(|| "void".to_owned())),
        ("ROCR_VISIBLE_DEVICES", amd_uuids.map_or_else(|| amd.clone(), |uuids| uuids.join(","))),
        ("HIP_VISIBLE_DEVICES", amd),
        ("ZE_AFFINITY_MASK", places(of(Vendor::Intel).count())),
        ("GGML_VK_VISIBLE_DEVICES", places(gpus.len())),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        let text = "[[gpu]]\nindex = 0\nuuid = \"GPU-a\"\nvendor = \"nvidia\"\nnodes = [\"/dev/full\"]\n[[gpu]]\nindex = 1\nvendor = \"nvidia\"\nnodes = [\"/dev/zero\"]\n[shared]\nnodes = [\"/dev/null\"]";
        Inventory::from_simulation(text, "d.toml").unwrap()
    }

    #[test]
    fn a_leased_gpu_brings_its_own_nodes_and_the_shared_ones() {
        let grant = inventory().grant(&["GPU-0".into()]).unwrap();
        assert_eq!((grant.exclusive, grant.shared), (vec!["/dev/full".into()], vec!["/dev/null".into()]));
        assert_eq!((grant.env["CUDA_VISIBLE_DEVICES"].as_str(), grant.cpuset), ("GPU-a", None));
        assert_eq!(inventory().grant(&["GPU-1".into()]).unwrap().env["CUDA_VISIBLE_DEVICES"], "1", "no UUID is known");
    }

    #[test]
    fn a_worker_without_a_gpu_sees_none() {
        let grant = inventory().grant(&["CPU-0".into()]).unwrap();
        assert_eq!((grant.env["CUDA_VISIBLE_DEVICES"].as_str(), grant.env["NVIDIA_VISIBLE_DEVICES"].as_str()), ("", "void"));
        assert!(grant.exclusive.is_empty() && grant.shared.is_empty() && grant.cpuset.is_some());
        let visible = ["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GGML_VK_VISIBLE_DEVICES"];
        assert_eq!(visible.map(|name| grant.env[name].as_str()), ["", "", "", ""], "an absent one would mean all");
    }

    #[test]
    fn what_is_no_canonical_name_is_no_such_device() {
        for bad in ["GPU-9", "CPU-99", "GPU-+0", "GPU-00", "0", "cpu", "", "GPU-a"] {
            let error = inventory().grant(&["GPU-0".into(), bad.into()]).unwrap_err();
            assert!(error.name == bad && error.to_string().contains("CPU-0, ") && error.to_string().contains("GPU-0, GPU-1"), "{error}");
        }
    }

    #[test]
    fn vendors_that_count_what_is_there_are_told_places_and_not_host_indices() {
        let text = "[[gpu]]\nindex = 0\nuuid = \"GPU-n\"\nvendor = \"nvidia\"\n[[gpu]]\nindex = 1\nuuid = \"GPU-1a\"\nvendor = \"amd\"\n[[gpu]]\nindex = 2\nuuid = \"GPU-2b\"\nvendor = \"amd\"\n[[gpu]]\nindex = 3\nvendor = \"amd\"\n[[gpu]]\nindex = 4\nvendor = \"intel\"\n[shared]\nnodes = [\"/dev/kfd\", \"/dev/nvidiactl\", \"/dev/null\"]\n";
        let host = Inventory::from_simulation(text, "d.toml").unwrap();
        let of = |names: &[&str]| host.grant(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let env = |grant: &Grant| {
            let names =
                ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GGML_VK_VISIBLE_DEVICES"];
            names.map(|name| grant.env[name].clone())
        };
        assert_eq!(env(&of(&["GPU-2"])), ["", "GPU-2b", "0", "", "0"]);
        assert_eq!(env(&of(&["GPU-1", "GPU-2"])), ["", "GPU-1a,GPU-2b", "0,1", "", "0,1"]);
        assert_eq!(env(&of(&["GPU-2", "GPU-3"])), ["", "0,1", "0,1", "", "0,1"], "one UUID is not known");
        assert_eq!(env(&of(&["GPU-4", "GPU-0"])), ["GPU-n", "", "", "0", "0,1"]);
        let shared = |names: &[&str]| of(names).shared.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(shared(&["GPU-0"]), ["/dev/kfd", "/dev/nvidiactl", "/dev/null"]);
        assert!(shared(&["CPU-0"]).is_empty());
    }

    #[test]
    fn on_a_real_host_each_vendors_shared_nodes_are_for_its_own_gpus() {
        let text =
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n[[gpu]]\nindex = 1\nvendor = \"amd\"\n[[gpu]]\nindex = 2\nvendor = \"intel\"\n";
        let mut host = Inventory::from_simulation(text, "d.toml").unwrap();
        host.source = HOST.into();
        host.shared = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/kfd"].map(PathBuf::from).to_vec();
        let shared = |name: &str| host.grant(&[name.into()]).unwrap().shared.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(shared("GPU-0"), ["/dev/nvidiactl", "/dev/nvidia-uvm"]);
        assert_eq!(shared("GPU-1"), ["/dev/kfd"]);
        assert!(shared("GPU-2").is_empty());
    }

    #[test]
    fn several_nodes_are_joined_and_one_without_memory_gives_none() {
        let node = |id, cpus: &str, memory_bytes| NumaNode { id, cpus: cpus.into(), memory_bytes, smt_siblings: vec![] };
        let host = Inventory { nodes: vec![node(0, "0-3", None), node(1, "4-7", Some(1)), node(2, "8", Some(0))], ..Inventory::default() };
        let of =
            |names: &[&str]| host.grant(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).map(|g| (g.cpuset, g.mems)).unwrap();
        assert_eq!(of(&["CPU-0", "CPU-1", "CPU-0", "CPU-2"]), (Some("0-3,4-7,8".into()), Some("0,1".into())));
        assert_eq!(of(&["CPU-2"]), (Some("8".into()), None));
        assert_eq!(of(&[]), (None, None));
    }
}
