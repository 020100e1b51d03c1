//! Who holds which device. Pure and synchronous; its owner locks it.
//!
//! Must never know why somebody wants a device, nor when it ends: the owner releases.

use std::collections::BTreeMap;

use crate::{DeviceSpec, Inventory};

/// Whether the policy gives GPUs at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuDemand {
    /// No GPU.
    None,
    /// What the request asks for, exclusively.
    Leased,
}

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The host lacks it.
    #[error("there is no device {name}; this host has {there}")]
    NoSuchDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// Somebody else has it.
    #[error("{device} is held by worker {holder}")]
    Busy {
        /// The device.
        device: String,
        /// Who holds it.
        holder: String,
    },
    /// The policy gives no GPU.
    #[error("the policy grants no GPU, and {device} is asked for")]
    NotGranted {
        /// What was asked for.
        device: String,
    },
}

/// Holders by device index.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    gpus: BTreeMap<u32, String>,
}

impl LeaseTable {
    /// Leases what `spec` wishes, all of it or nothing; the canonical names of what was leased.
    pub fn acquire(&mut self, inventory: &Inventory, holder: &str, wish: (&DeviceSpec, GpuDemand)) -> Result<Vec<String>, LeaseError> {
        let missing = |name: String| LeaseError::NoSuchDevice { name, there: inventory.names().join(", ") };
        let indices = match wish {
            (DeviceSpec::Auto, GpuDemand::Leased) if !inventory.gpus.is_empty() => vec![self.free_gpu(inventory)?],
            (DeviceSpec::Auto | DeviceSpec::AnyCpu, _) => return Ok(inventory.nodes.iter().map(|n| format!("CPU-{}", n.id)).collect()),
            (DeviceSpec::Cpu(n), _) if inventory.nodes.iter().any(|node| node.id == *n) => return Ok(vec![format!("CPU-{n}")]),
            (DeviceSpec::Cpu(n), _) => return Err(missing(format!("CPU-{n}"))),
            (DeviceSpec::Gpus(list), _) => match list.iter().find(|n| inventory.gpu(**n).is_none()) {
                Some(n) => return Err(missing(format!("GPU-{n}"))),
                None => list.clone(),
            },
            (DeviceSpec::GpuUuids(list), _) => {
                let index = |uuid: &String| {
                    inventory
                        .gpus
                        .iter()
                        .find(|g| g.uuid.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(uuid)))
                        .map(|g| g.index)
                        .ok_or_else(|| missing(uuid.clone()))
                };
                list.iter().map(index).collect::<Result<_, _>>()?
            }
        };
        if wish.1 == GpuDemand::None {
            return Err(LeaseError::NotGranted { device: indices.first().map_or_else(String::new, |n| format!("GPU-{n}")) });
        }
        self.take(holder, &indices)
    }

    /// Gives back everything that `holder` has.
    pub fn release(&mut self, holder: &str) {
        self.gpus.retain(|_, h| h != holder);
    }

    /// Every holder with the names of what it has.
    pub fn holders(&self) -> BTreeMap<&str, Vec<String>> {
        let mut holders: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (n, holder) in &self.gpus {
            holders.entry(holder).or_default().push(format!("GPU-{n}"));
        }
        holders
    }

    /// Who holds this GPU.
    pub fn holder(&self, gpu: u32) -> Option<&str> {
        self.gpus.get(&gpu).map(String::as_str)
    }

    fn free_gpu(&self, inventory: &Inventory) -> Result<u32, LeaseError> {
        let free = inventory.gpus.iter().map(|g| g.index).find(|n| !self.gpus.contains_key(n));
        free.ok_or_else(|| {
            let (n, holder) = self.gpus.iter().next().map_or((0, String::new()), |(n, h)| (*n, h.clone()));
            LeaseError::Busy { device: format!("GPU-{n}"), holder }
        })
    }

    fn take(&mut self, holder: &str, indices: &[u32]) -> Result<Vec<String>, LeaseError> {
        if let Some((n, other)) = indices.iter().find_map(|n| self.gpus.get(n).map(|h| (n, h))) {
            return Err(LeaseError::Busy { device: format!("GPU-{n}"), holder: other.clone() });
        }
        self.gpus.extend(indices.iter().map(|n| (*n, holder.to_owned())));
        Ok(indices.iter().map(|n| format!("GPU-{n}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inventory(gpus: u32) -> Inventory {
        let text: String = (0..gpus).map(|n| format!("[[gpu]]\nindex = {n}\nuuid = \"GPU-u{n}\"\nvendor = \"nvidia\"\n")).collect();
        Inventory::from_simulation(&text, "d.toml").unwrap()
    }

    #[test]
    fn auto_takes_a_free_gpu_then_is_busy_and_the_cpu_where_there_is_none() {
        let (two, none, mut table) = (inventory(2), inventory(0), LeaseTable::default());
        let auto = (&DeviceSpec::Auto, GpuDemand::Leased);
        assert_eq!(table.acquire(&two, "a", auto), Ok(vec!["GPU-0".into()]));
        assert_eq!(table.acquire(&two, "b", auto), Ok(vec!["GPU-1".into()]));
        assert!(matches!(table.acquire(&two, "c", auto), Err(LeaseError::Busy { .. })));
        table.release("a");
        assert_eq!(table.acquire(&two, "c", auto), Ok(vec!["GPU-0".into()]));
        assert_eq!(table.acquire(&none, "d", auto).unwrap()[0], "CPU-0");
        assert_eq!(table.acquire(&two, "e", (&DeviceSpec::Auto, GpuDemand::None)).unwrap()[0], "CPU-0");
    }

    #[test]
    fn what_the_host_lacks_or_the_policy_withholds_is_refused() {
        let (host, mut table) = (inventory(1), LeaseTable::default());
        let ask = |table: &mut LeaseTable, spec: &DeviceSpec, demand| table.acquire(&host, "a", (spec, demand));
        assert!(matches!(ask(&mut table, &DeviceSpec::Gpus(vec![7]), GpuDemand::Leased), Err(LeaseError::NoSuchDevice { .. })));
        assert!(matches!(ask(&mut table, &DeviceSpec::Gpus(vec![7]), GpuDemand::None), Err(LeaseError::NoSuchDevice { .. })));
        assert!(matches!(ask(&mut table, &DeviceSpec::Cpu(77), GpuDemand::None), Err(LeaseError::NoSuchDevice { .. })));
        assert!(matches!(ask(&mut table, &DeviceSpec::Gpus(vec![0]), GpuDemand::None), Err(LeaseError::NotGranted { .. })));
        assert!(matches!(
            ask(&mut table, &DeviceSpec::GpuUuids(vec!["GPU-u7".into()]), GpuDemand::Leased),
            Err(LeaseError::NoSuchDevice { .. })
        ));
        assert!(table.holders().is_empty(), "what is refused is not held");
        assert_eq!(ask(&mut table, &DeviceSpec::GpuUuids(vec!["GPU-U0".into()]), GpuDemand::Leased), Ok(vec!["GPU-0".into()]));
    }

    #[test]
    fn cpu_is_every_node_and_a_cpu_is_held_by_nobody() {
        let (mut host, mut table) = (inventory(1), LeaseTable::default());
        host.nodes = [0, 2].map(|id| crate::NumaNode { id, cpus: id.to_string(), memory_bytes: None, smt_siblings: vec![] }).to_vec();
        for holder in ["a", "b"] {
            assert_eq!(table.acquire(&host, holder, (&DeviceSpec::AnyCpu, GpuDemand::Leased)), Ok(vec!["CPU-0".into(), "CPU-2".into()]));
            assert_eq!(table.acquire(&host, holder, (&DeviceSpec::Cpu(2), GpuDemand::None)), Ok(vec!["CPU-2".into()]));
        }
        let error = table.acquire(&host, "a", (&DeviceSpec::Cpu(1), GpuDemand::None)).unwrap_err();
        assert_eq!(error.to_string(), "there is no device CPU-1; this host has CPU-0, CPU-2, GPU-0");
        assert!(table.holders().is_empty());
    }

    #[test]
    fn a_busy_device_names_its_holder() {
        let (host, mut table) = (inventory(3), LeaseTable::default());
        let both = DeviceSpec::Gpus(vec![2, 0]);
        assert_eq!(
            table.acquire(&host, "a", (&both, GpuDemand::Leased)),
            Ok(vec!["GPU-2".into(), "GPU-0".into()]),
            "in the order asked for"
        );
        assert_eq!(table.holders(), BTreeMap::from([("a", vec!["GPU-0".to_owned(), "GPU-2".to_owned()])]));
        let error = table.acquire(&host, "b", (&DeviceSpec::Gpus(vec![1, 2]), GpuDemand::Leased)).unwrap_err();
        assert_eq!(error, LeaseError::Busy { device: "GPU-2".into(), holder: "a".into() });
        assert_eq!(table.holder(1), None, "all of it or nothing");
    }

    proptest! {
        #[test]
        fn no_gpu_is_ever_held_twice_and_a_failed_set_takes_nothing(asks in proptest::collection::vec((0u8..6, proptest::collection::btree_set(0u32..4, 1..4), any::<bool>()), 1..60)) {
            let (host, mut table) = (inventory(4), LeaseTable::default());
            let mut held: BTreeMap<u32, String> = BTreeMap::new();
            for (who, set, release) in asks {
                let holder = format!("w{who}");
                if release {
                    table.release(&holder);
                    held.retain(|_, h| *h != holder);
                    continue;
                }
                let list: Vec<u32> = set.into_iter().collect();
                let free = list.iter().all(|n| !held.contains_key(n));
                let got = table.acquire(&host, &holder, (&DeviceSpec::Gpus(list.clone()), GpuDemand::Leased));
                prop_assert_eq!(got.is_ok(), free);
                if free {
                    held.extend(list.into_iter().map(|n| (n, holder.clone())));
                }
                for n in 0..4 {
                    prop_assert_eq!(table.holder(n), held.get(&n).map(String::as_str));
                }
                prop_assert_eq!(table.holders().values().map(Vec::len).sum::<usize>(), held.len());
            }
        }

        #[test]
        fn what_everybody_released_can_be_had_again(takers in proptest::collection::vec(0u8..4, 0..12)) {
            let (host, mut table) = (inventory(4), LeaseTable::default());
            let taken = takers.iter().filter(|who| table.acquire(&host, &format!("w{who}"), (&DeviceSpec::Auto, GpuDemand::Leased)).is_ok()).count();
            prop_assert_eq!(taken, takers.len().min(4));
            (0..4).for_each(|who| table.release(&format!("w{who}")));
            prop_assert!(table.holders().is_empty());
            prop_assert!(table.acquire(&host, "last", (&DeviceSpec::Gpus(vec![0, 1, 2, 3]), GpuDemand::Leased)).is_ok());
        }
    }
}
