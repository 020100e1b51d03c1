//! Who leaves: whose memory is awaited, and the table as it would be without one worker, whose end is to make room for somebody else.

use super::holder::Hold;
use super::{LeaseTable, Proof, Releasing};

impl LeaseTable {
    /// Whose memory is awaited on a GPU, in words; `None`: nobody's.
    pub(crate) fn awaited_on(&self, gpu: u32) -> Option<String> {
        let gone = self.on(gpu).filter(|lease| lease.gpus.get(&gpu) == Some(&Hold::Releasing));
        let names: Vec<String> = gone.map(|lease| lease.holder.to_string()).collect();
        (!names.is_empty()).then(|| format!("the memory of {} is not back yet", names.join(", ")))
    }

    /// What there would be if this worker had gone and its memory were back. What others use beside it on its GPUs counts as leased alone:
    /// which part of the use is whose is not known here.
    #[must_use]
    pub fn without(&self, worker: &str) -> Self {
        let mut table = self.clone();
        if let Some(Releasing { lease_id, gpus }) = table.begin_release(worker) {
            for gpu in gpus {
                table.finish_release(&lease_id, gpu, Proof::NotMeasured);
                table.used_bytes.remove(&gpu);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{DeviceSpec, Holder, Inventory, LeaseRequest, LeaseTable, Terms};

    fn request(name: &str, device: &serde_json::Value) -> LeaseRequest {
        LeaseRequest { holder: Holder::Worker(name.into()), spec: DeviceSpec::parse(device).unwrap(), terms: Terms::unbounded() }
    }

    #[test]
    fn a_workers_gpus_and_memory_are_there_without_it_and_the_table_itself_is_as_before() {
        let text =
            "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nmemory = \"8GiB\"\n[[gpu]]\nindex = 1\nvendor = \"nvidia\"\nmemory = \"8GiB\"\n";
        let (host, mut table) = (Inventory::from_simulation(text, "d.toml").unwrap(), LeaseTable::default());
        table.acquire(&host, &request("old", &json!(0))).unwrap();
        table.acquire(&host, &request("other", &json!(1))).unwrap();
        table.observe(0, Some(7 << 30));
        let wanted = request("new", &json!({"min_memory": "6GiB"}));
        assert_eq!(table.without("old").acquire(&host, &wanted).unwrap().devices, ["GPU-0"]);
        assert!(table.without("old").acquire(&host, &request("new", &json!(1))).is_err(), "that one is not its own");
        assert!(table.without("nobody").acquire(&host, &wanted).is_err() && table.acquire(&host, &wanted).is_err());
    }

    #[test]
    fn a_lease_that_a_worker_runs_on_is_its_holders_to_give_to_the_next() {
        let text = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n";
        let (host, mut table) = (Inventory::from_simulation(text, "d.toml").unwrap(), LeaseTable::default());
        let engine = LeaseRequest { holder: Holder::External("engine".into()), ..request("", &json!(0)) };
        let lease = table.acquire(&host, &engine).unwrap().id;
        table.use_lease(&lease, "old").unwrap();
        assert!(table.clone().use_lease(&lease, "new").is_err());
        assert!(table.without("old").use_lease(&lease, "new").is_ok());
    }
}
