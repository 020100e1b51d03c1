//! Devices as clients see them.

use serde::Serialize;

use crate::{GpuState, Inventory, LeaseTable, LeaseView, Proof, Vendor};

/// One line of `device_list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// PCI address.
    pub pci: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// CPUs, in list format.
    pub cpus: Option<String>,
    /// CPUs that share a core, in list format, one entry for each core that has more than one.
    pub smt_siblings: Vec<String>,
    /// Device nodes.
    pub nodes: Vec<String>,
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
}

impl Inventory {
    /// Every device, with its holder.
    pub fn views(&self, leases: &LeaseTable) -> Vec<DeviceView> {
        let cpus = self.nodes.iter().map(|n| DeviceView {
            id: format!("CPU-{}", n.id),
            kind: "cpu",
            name: None,
            uuid: None,
            vendor: None,
            pci: None,
            numa_node: Some(n.id),
            memory_bytes: n.memory_bytes,
            cpus: Some(n.cpus.clone()),
            smt_siblings: n.smt_siblings.clone(),
            nodes: vec![],
            lease: None,
            state: None,
            state_reason: None,
            leases: vec![],
            memory_free_bytes: None,
            last_release: None,
            foreign: vec![],
        });
        let gpus = self.gpus.iter().map(|g| {
            let (state, reason) = leases.state(g);
            DeviceView {
                id: format!("GPU-{}", g.index),
                kind: "gpu",
                name: Some(g.name.clone()),
                uuid: g.uuid.clone(),
                vendor: Some(g.vendor),
                pci: g.pci.clone(),
                numa_node: g.numa_node,
                memory_bytes: g.memory_bytes,
                cpus: None,
                smt_siblings: vec![],
                nodes: g.nodes.iter().map(|n| n.display().to_string()).collect(),
                lease: leases.holder(g.index),
                state: Some(state),
                state_reason: reason.map(str::to_owned),
                leases: leases.on(g.index).map(crate::Lease::view).collect(),
                memory_free_bytes: leases.free_bytes(g),
                last_release: leases.last_release(g.index),
                foreign: leases.foreign(g.index).collect(),
            }
        });
        cpus.chain(gpus).collect()
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
}
