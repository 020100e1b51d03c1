//! A worker that runs on somebody else's lease gets no more by that than by a request of its own.

use super::need::large_enough;
use super::share::size;
use super::{GpuDemand, Lease, LeaseError, LeaseTable, Obstacle, Terms, Why};
use crate::{Gpu, Inventory};

impl LeaseTable {
    /// Whether a lease is one that the terms allow, and large enough for them.
    ///
    /// Errors: `NotGranted`, `ShareNotGranted`, `Contradiction` for fewer GPUs than the policy's workers get, `TooSmall`, and `Busy` where
    /// others use the memory.
    pub fn suits(&self, inventory: &Inventory, lease: &Lease, terms: &Terms) -> Result<(), LeaseError> {
        let gpus: Vec<&Gpu> = lease.gpus().filter_map(|n| inventory.gpu(n)).collect();
        let Some(first) = gpus.first() else {
            let none = |needs| Err(LeaseError::TooSmall { device: lease.id.clone(), has: "no GPU".into(), needs: size(needs) });
            return terms.vram_min.map_or(Ok(()), none);
        };
        if terms.demand == GpuDemand::None {
            return Err(LeaseError::NotGranted { device: format!("GPU-{}", first.index) });
        }
        if let Some(allowed) = terms.share.filter(|allowed| !lease.share.within(*allowed)) {
            return Err(LeaseError::ShareNotGranted { asked: lease.share, allowed });
        }
        if gpus.len() < terms.count as usize {
            let what = format!("{} has {} of the {} GPUs that workers of this policy get", lease.id, gpus.len(), terms.count);
            return Err(LeaseError::Contradiction { what });
        }
        let Some(needed) = terms.vram_min else { return Ok(()) };
        large_enough(&gpus, (lease.share, Some(needed)), true)?;
        let taken: Vec<Obstacle> = gpus.iter().filter_map(|gpu| self.short_of(gpu, needed)).collect();
        if taken.is_empty() { Ok(()) } else { Err(LeaseError::Busy(taken)) }
    }

    /// What is in use there is not free, whosever it is.
    fn short_of(&self, gpu: &Gpu, needed: u64) -> Option<Obstacle> {
        let free = gpu.memory_bytes?.saturating_sub(*self.used_bytes.get(&gpu.index)?);
        (free < needed).then(|| Obstacle { device: format!("GPU-{}", gpu.index), why: Why::NoRoom { free, needed } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{Holder, LeaseRequest, Share};
    use crate::{DeviceSpec, Inventory};

    #[test]
    fn a_lease_must_be_as_large_as_a_request_of_its_own() {
        let text = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nmemory = \"8GiB\"\n";
        let (host, mut table) = (Inventory::from_simulation(text, "d.toml").unwrap(), LeaseTable::default());
        let spec = |json: serde_json::Value| DeviceSpec::parse(&json).unwrap();
        let request = |spec| LeaseRequest { holder: Holder::External("e".into()), spec, terms: Terms::unbounded() };
        let part = table.acquire(&host, &request(spec(serde_json::json!({"share": {"memory": "4GiB"}})))).unwrap();
        let cpu = table.acquire(&host, &request(DeviceSpec::AnyCpu)).unwrap();
        let gib = |n: u64| Some(n << 30);
        let terms = |vram_min, count| Terms { vram_min, count, ..Terms::unbounded() };
        let small = |outcome: Result<(), LeaseError>| matches!(outcome, Err(LeaseError::TooSmall { .. }));
        assert_eq!(table.suits(&host, &part, &terms(gib(4), 1)), Ok(()));
        assert!(small(table.suits(&host, &part, &terms(gib(5), 1))), "its own part counts, not the GPU");
        assert!(small(table.suits(&host, &cpu, &terms(gib(1), 1))) && table.suits(&host, &cpu, &terms(None, 1)).is_ok());
        assert!(matches!(table.suits(&host, &part, &terms(None, 2)), Err(LeaseError::Contradiction { .. })));
        table.observe(0, gib(5));
        let error = table.suits(&host, &part, &terms(gib(4), 1)).unwrap_err();
        assert_eq!(error.to_string(), "GPU-0 has 3 GiB free, and 4 GiB are needed");
        let none = Terms { demand: GpuDemand::None, ..terms(None, 1) };
        assert!(matches!(table.suits(&host, &part, &none), Err(LeaseError::NotGranted { .. })));
        let whole = Terms { share: Some(Share::Exclusive), ..terms(None, 1) };
        assert!(matches!(table.suits(&host, &part, &whole), Err(LeaseError::ShareNotGranted { .. })));
    }
}
