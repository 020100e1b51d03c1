//! What was so before a restart: leases that are still held, those whose memory is awaited, GPUs that are not given out.

use super::release::Condition;
use super::table::{Kept, number};
use super::{Holder, Lease, LeaseError, LeaseTable, Obstacle, Releasing, Share};
use crate::{Gpu, Inventory};

/// A lease whose holder has gone with the hive of before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `lease:<number>`.
    pub id: String,
    /// Whose it was.
    pub holder: Holder,
    /// The worker that ran on it, where that is not the holder.
    pub user: Option<String>,
    /// Its GPUs.
    pub gpus: Vec<u32>,
    /// How much of each.
    pub share: Share,
}

/// A GPU that is not given out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OutOfUse {
    /// The reason, in a clause.
    pub why: String,
    /// Whether it is that an ended holder's memory did not come back.
    pub leaked: bool,
}

impl LeaseTable {
    /// The highest number that a lease has had.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Numbers go on after this one: those of before a restart never come again.
    pub fn continue_after(&mut self, given: u64) {
        self.given = self.given.max(given);
    }

    /// Nobody gets a GPU, for this reason; `None`: as it stands otherwise. The owner pumps the queue afterwards.
    pub fn seal(&mut self, why: Option<String>) {
        self.sealed = why;
    }

    /// Puts an external lease back that was held before a restart.
    ///
    /// Errors: a GPU that is not there, or not to be had any more.
    pub fn restore(
        &mut self,
        inventory: &Inventory,
        (id, name): (&str, &str),
        (gpus, share): (&[u32], Share),
    ) -> Result<Lease, LeaseError> {
        let missing = |n: &u32| LeaseError::NoSuchDevice { name: format!("GPU-{n}"), there: inventory.names().join(", ") };
        let there = gpus.iter().map(|n| inventory.gpu(*n).filter(|g| !g.partitioned).ok_or_else(|| missing(n)));
        let there = there.collect::<Result<Vec<&Gpu>, _>>()?;
        let busy: Vec<Obstacle> = there.iter().filter_map(|g| self.obstacle(g, (share, None), &Kept::new())).collect();
        if !busy.is_empty() {
            return Err(LeaseError::Busy(busy));
        }
        self.continue_after(number(id));
        Ok(self.put(id.to_owned(), &Holder::External(name.to_owned()), (gpus, share)))
    }

    /// Puts a lease back whose holder has gone: its GPUs wait for their memory. It fits: it was there beside the others before.
    pub fn restore_ended(&mut self, ended: &Ended) -> Releasing {
        self.continue_after(number(&ended.id));
        self.put(ended.id.clone(), &ended.holder, (&ended.gpus, ended.share));
        if let Some(lease) = self.leases.get_mut(&ended.id) {
            lease.user.clone_from(&ended.user);
            lease.abandoned = matches!(ended.holder, Holder::External(_));
        }
        self.start_releasing(ended.id.clone())
    }

    /// Why a GPU is not given out.
    pub fn out_of_use(&self, gpu: u32) -> Option<OutOfUse> {
        self.conditions.get(&gpu).map(|condition| OutOfUse { why: condition.why.clone(), leaked: condition.leaked })
    }

    /// As it was before: it is given out again by [`LeaseTable::heal`].
    pub fn restore_out_of_use(&mut self, gpu: u32, was: &OutOfUse) {
        self.conditions.insert(gpu, Condition { why: was.why.clone(), leaked: was.leaked });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GpuState, Proof, Terms};
    use super::*;
    use crate::{DeviceSpec, LeaseRequest};

    #[test]
    fn who_went_with_the_hive_of_before_is_awaited_still() {
        let text = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n[[gpu]]\nindex = 1\nvendor = \"nvidia\"\n";
        let (host, mut table) = (Inventory::from_simulation(text, "d.toml").unwrap(), LeaseTable::default());
        let ended = |id: &str, holder: Holder, user: Option<&str>, gpu| Ended {
            id: id.into(),
            holder,
            user: user.map(str::to_owned),
            gpus: vec![gpu],
            share: Share::Exclusive,
        };
        table.restore_ended(&ended("lease:4", Holder::Worker("w".into()), None, 0));
        table.restore_ended(&ended("lease:9", Holder::External("e".into()), Some("v"), 1));
        assert_eq!(table.state(&host.gpus[0]).0, GpuState::Releasing);
        assert_eq!(table.awaited(), [("lease:4".to_owned(), 0), ("lease:9".to_owned(), 1)]);
        assert_eq!(table.begin_release("w"), None, "it has ended before");
        table.finish_release("lease:4", 0, Proof::Measured);
        table.finish_release("lease:9", 1, Proof::Measured);
        assert!(table.leases().is_empty(), "nobody holds the external one any more");
        let anew = LeaseRequest { holder: Holder::Worker("w".into()), spec: DeviceSpec::Auto, terms: Terms::unbounded() };
        assert_eq!(table.acquire(&host, &anew).unwrap().id, "lease:10");
    }

    #[test]
    fn a_sealed_table_gives_no_gpu_and_every_cpu() {
        let host = Inventory::from_simulation("[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n", "d.toml").unwrap();
        let mut table = LeaseTable::default();
        table.seal(Some("nobody knows".into()));
        let asked = |spec| LeaseRequest { holder: Holder::Worker("w".into()), spec, terms: Terms::unbounded() };
        assert_eq!(table.acquire(&host, &asked(DeviceSpec::Auto)).unwrap_err().to_string(), "GPU-0 is not given out: nobody knows");
        assert_eq!(table.state(&host.gpus[0]), (GpuState::Quarantined, Some("nobody knows")));
        assert!(!table.heal(0), "that is the owner's to say");
        assert!(table.acquire(&host, &asked(DeviceSpec::AnyCpu)).is_ok());
        table.seal(None);
        assert!(table.acquire(&host, &asked(DeviceSpec::Auto)).is_ok());
    }

    #[test]
    fn a_gpu_that_was_out_of_use_is_so_with_its_reason() {
        let host = Inventory::from_simulation("[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n", "d.toml").unwrap();
        let (mut before, mut after) = (LeaseTable::default(), LeaseTable::default());
        before.quarantine(0, "it does not answer");
        after.restore_out_of_use(0, &before.out_of_use(0).unwrap());
        assert_eq!(after.state(&host.gpus[0]), (GpuState::Quarantined, Some("it does not answer")));
        after.restore_out_of_use(0, &OutOfUse { why: "gone".into(), leaked: true });
        assert_eq!(after.state(&host.gpus[0]).0, GpuState::VramLeaked);
        assert!(after.heal(0) && after.out_of_use(0).is_none());
    }
}
