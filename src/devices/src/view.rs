//! Devices as clients see them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    DriverMount, Gpu, GpuObservation, GpuProcess, GpuState, Inventory, Lease, LeaseTable, LeaseView, Mig, NumaNode, Observation, Proof,
    Vendor,
};

/// One line of `device_list`. What is not known, or does not apply, is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceView {
    /// `CPU-0`, `GPU-0`.
    pub id: String,
    /// `cpu` or `gpu`.
    pub kind: &'static str,
    /// Product name.
    pub name: Option<String>,
    /// UUID.
    pub uuid: Option<String>,
    /// Who made it.
    pub vendor: Option<Vendor>,
    /// Kernel driver, with its version where it tells one.
    pub driver: Option<String>,
    /// PCI address.
    pub pci: Option<String>,
    /// The number that its own node ends in.
    pub minor: Option<u32>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory in use, by whomever.
    pub memory_used_bytes: Option<u64>,
    /// CPUs, in list format.
    pub cpus: Option<String>,
    /// CPUs that share a core, in list format, one entry for each core that has more than one.
    pub smt_siblings: Vec<String>,
    /// Packages (sockets) that the CPUs are in.
    pub packages: Vec<u32>,
    /// From these CPUs to the memory of each node, by its number; 10 is its own.
    pub distances: BTreeMap<u32, u32>,
    /// Whether it stands for placement alone: a simulation's CPUs that this host lacks.
    pub placement_only: bool,
    /// Device nodes.
    pub nodes: Vec<String>,
    /// Files of the driver that a worker gets to see.
    pub mounts: Vec<DriverMount>,
    /// Ways to other GPUs, by their names: `nvlink`, `xgmi`, `pix`, `pxb`, `phb`, `node`, `sys`.
    pub links: BTreeMap<String, String>,
    /// Which part of a GPU it is.
    pub mig: Option<Mig>,
    /// Whether it is cut into parts, which are leased instead.
    pub partitioned: bool,
    /// Processes on it; `None` where the driver lists none or was not asked.
    pub processes: Option<Vec<GpuProcess>>,
    /// Why it does not answer; `None` where it does, or was not asked.
    pub silent: Option<String>,
    /// Who holds it, comma-joined.
    pub lease: Option<String>,
    /// How a GPU stands; `None` for CPUs, which nobody holds.
    pub state: Option<GpuState>,
    /// Why it is not given out.
    pub state_reason: Option<String>,
    /// Its leases.
    pub leases: Vec<LeaseView>,
    /// Bytes that are neither leased nor, as far as is known, in use.
    pub memory_free_bytes: Option<u64>,
    /// Whether the last holder's memory was seen to be back; `None` where there was no holder.
    pub last_release: Option<Proof>,
    /// Processes on it that are no worker's.
    pub foreign: Vec<i32>,
    /// MPS daemons on it.
    pub mps: Vec<MpsView>,
}

/// An MPS daemon of a group of workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MpsView {
    /// Its name.
    pub id: String,
    /// Its process.
    pub pid: Option<i32>,
    /// `starting`, `ready`, `stopping`, …: as a worker's.
    pub state: String,
    /// Workers of its group.
    pub clients: Vec<String>,
}

/// Everything about this host's devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// As in `device_list`.
    pub devices: Vec<DeviceView>,
    /// What could not be found out, and why.
    pub notes: Vec<String>,
    /// `host`, or the simulation's file.
    pub source: String,
}

impl Inventory {
    /// Every device, with its holder.
    pub fn views(&self, leases: &LeaseTable) -> Vec<DeviceView> {
        self.topology(leases, &Observation::default()).devices
    }

    /// Every device with its holder and what was last seen of it, and the notes.
    pub fn topology(&self, leases: &LeaseTable, seen: &Observation) -> Topology {
        let cpus = self.nodes.iter().map(|n| self.cpu_view(n));
        let gpus = self.gpus.iter().map(|g| {
            let (state, reason) = leases.state(g);
            DeviceView {
                lease: leases.holder(g.index),
                state: Some(state),
                state_reason: reason.map(str::to_owned).or_else(|| leases.awaited_on(g.index)),
                leases: leases.on(g.index).map(Lease::view).collect(),
                memory_free_bytes: leases.free_bytes(g),
                last_release: leases.last_release(g.index),
                foreign: leases.foreign(g.index).collect(),
                ..gpu_view(g, seen.gpus.get(&g.index))
            }
        });
        Topology { devices: cpus.chain(gpus).collect(), notes: self.notes.clone(), source: self.source.clone() }
    }

    fn cpu_view(&self, node: &NumaNode) -> DeviceView {
        let own = crate::inventory::numbers(&node.cpus);
        let packages = self.packages.iter().filter(|(_, cpus)| !crate::inventory::numbers(cpus).is_disjoint(&own));
        DeviceView {
            id: format!("CPU-{}", node.id),
            kind: "cpu",
            numa_node: Some(node.id),
            memory_bytes: node.memory_bytes,
            cpus: Some(node.cpus.clone()),
            smt_siblings: node.smt_siblings.clone(),
            packages: packages.map(|(package, _)| *package).collect(),
            distances: self.distances.get(&node.id).cloned().unwrap_or_default(),
            placement_only: self.placement_only.contains(&node.id),
            ..DeviceView::default()
        }
    }
}

fn gpu_view(gpu: &Gpu, seen: Option<&GpuObservation>) -> DeviceView {
    DeviceView {
        id: format!("GPU-{}", gpu.index),
        kind: "gpu",
        name: Some(gpu.name.clone()),
        uuid: gpu.uuid.clone(),
        vendor: Some(gpu.vendor),
        driver: gpu.driver.clone(),
        pci: gpu.pci.clone(),
        minor: gpu.minor(),
        numa_node: gpu.numa_node,
        memory_bytes: gpu.memory_bytes,
        memory_used_bytes: seen.and_then(|s| s.memory_used_bytes),
        nodes: gpu.nodes.iter().map(|n| n.display().to_string()).collect(),
        mounts: gpu.mounts.clone(),
        links: gpu.links.iter().map(|(other, link)| (format!("GPU-{other}"), link.clone())).collect(),
        mig: gpu.mig.clone(),
        partitioned: gpu.partitioned,
        processes: seen.and_then(|s| s.processes.clone()),
        silent: seen.and_then(|s| s.silent.clone()),
        ..DeviceView::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceSpec, Holder, LeaseRequest, Terms};

    #[test]
    fn every_device_is_listed_with_its_holder() {
        let text =
            "[[gpu]]\nindex = 0\nvendor = \"amd\"\nmemory = \"2GiB\"\nnodes = [\"/dev/full\"]\n[[gpu]]\nindex = 1\nvendor = \"amd\"\n";
        let (host, mut table) = (Inventory::from_simulation(text, "d.toml").unwrap(), LeaseTable::default());
        let request = LeaseRequest { holder: Holder::Worker("w1".into()), spec: DeviceSpec::Gpus(vec![1]), terms: Terms::unbounded() };
        table.acquire(&host, &request).unwrap();
        let views = serde_json::to_value(host.views(&table)).unwrap();
        let list = views.as_array().unwrap();
        assert_eq!((list[0]["id"].as_str(), list[0]["kind"].as_str()), (Some("CPU-0"), Some("cpu")));
        assert_eq!(list[0]["cpus"].as_str(), Some(host.nodes[0].cpus.as_str()));
        let gpus: Vec<_> = list.iter().filter(|v| v["kind"] == "gpu").collect();
        assert_eq!(
            (&gpus[0]["lease"], &gpus[0]["memory_bytes"], &gpus[0]["nodes"][0]),
            (&serde_json::Value::Null, &(2u64 << 30).into(), &"/dev/full".into())
        );
        assert_eq!(
            (gpus[1]["id"].as_str(), gpus[1]["lease"].as_str(), gpus[1]["vendor"].as_str()),
            (Some("GPU-1"), Some("w1"), Some("amd"))
        );
        assert_eq!((gpus[0]["state"].as_str(), gpus[1]["state"].as_str()), (Some("free"), Some("leased")));
        assert_eq!((&gpus[1]["leases"][0]["lease_id"], &gpus[1]["leases"][0]["share"]), (&"lease:1".into(), &"exclusive".into()));
        assert_eq!((&gpus[0]["memory_free_bytes"], &gpus[1]["memory_free_bytes"]), (&(2u64 << 30).into(), &serde_json::Value::Null));
    }

    #[test]
    fn a_gpu_that_is_being_released_says_whose_memory_it_waits_for() {
        let (host, mut table) =
            (Inventory::from_simulation("[[gpu]]\nindex = 0\nvendor = \"amd\"\n", "d.toml").unwrap(), LeaseTable::default());
        let request = LeaseRequest { holder: Holder::Worker("w1".into()), spec: DeviceSpec::Gpus(vec![0]), terms: Terms::unbounded() };
        table.acquire(&host, &request).unwrap();
        let reason = |table: &LeaseTable| host.views(table).pop().and_then(|gpu| gpu.state_reason);
        assert_eq!(reason(&table), None);
        table.begin_release("w1").unwrap();
        assert_eq!(reason(&table).as_deref(), Some("the memory of worker w1 is not back yet"));
    }

    #[test]
    fn a_view_has_distances_packages_links_and_what_was_last_seen() {
        let nodes = "[[node]]\nid = 0\ncpus = \"0\"\ndistances = { 0 = 10, 1 = 21 }\npackage = 3\n[[node]]\nid = 1\ncpus = \"60000\"\nsimulated = true\n";
        let gpus = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnodes = [\"/dev/nvidia7\"]\nlinks = { 1 = \"nvlink\" }\n";
        let host = Inventory::from_simulation(&format!("{nodes}{gpus}"), "d.toml").unwrap();
        let seen = GpuObservation { silent: None, memory_used_bytes: Some(5), processes: Some(vec![]), xids: vec![] };
        let seen = Observation { gpus: [(0, seen)].into() };
        let told = host.topology(&LeaseTable::default(), &seen);
        assert_eq!((told.devices[0].distances[&1], told.devices[0].packages.clone(), told.devices[1].placement_only), (21, vec![3], true));
        assert_eq!((told.devices[2].links["GPU-1"].as_str(), told.devices[2].minor), ("nvlink", Some(7)));
        assert_eq!((told.devices[2].memory_used_bytes, told.devices[2].processes.as_deref()), (Some(5), Some(&[][..])));
        assert!(told.source == "d.toml" && told.notes.iter().any(|n| n.contains("simulated")), "{told:?}");
        let unseen = host.views(&LeaseTable::default());
        assert_eq!((unseen[2].memory_used_bytes, unseen[2].processes.clone(), unseen[2].silent.clone()), (None, None, None));
    }
}
