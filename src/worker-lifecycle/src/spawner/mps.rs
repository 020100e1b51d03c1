//! Whether a start has an MPS daemon, and which.

use rbee_hive_devices::{Lease, Share};
use rbee_hive_policy::{Mps, MpsPlan, MpsWish, Policy, SandboxPlan, WorkerId, mps_obstacle};

use super::Attached;
use crate::mps::Key;
use crate::task::WorkerHandle;

impl Attached {
    /// What the launcher is told of the worker's MPS daemon, which is started where its group has none. `None` where its policy wants none;
    /// whether it goes without one is the launcher's to decide, by the policy.
    pub(super) async fn mps(&self, (id, name, policy): (&WorkerId, &str, &Policy), lease: &Lease) -> Option<MpsWish> {
        if policy.devices.mps == Mps::Off || lease.gpus().next().is_none() {
            return None;
        }
        let joined = match (lease.share, mps_obstacle(policy)) {
            (Share::Exclusive, _) => Err("its lease is exclusive: there is nobody to share with".to_owned()),
            (_, Some(why)) => Err(why.to_owned()),
            (_, None) => {
                let key = Key { gpus: lease.devices.iter().cloned().collect(), user: policy.credentials.user.clone() };
                self.mps.join(&self.tools, key, (id, name)).await
            }
        };
        Some(joined.map_or_else(|why| MpsWish::None { why }, MpsWish::Server))
    }

    /// The launcher has made it a client, or not. Whose daemon has ended by now is told so: nobody knew it to be a client then.
    pub(super) fn set_mps(&self, plan: &SandboxPlan, handle: &WorkerHandle) {
        if let Some(MpsPlan::Client { server, .. }) = &plan.mps {
            let _ = handle.known.mps.set(server.clone());
            self.mps.tell_if_lost(&self.tools, handle);
        }
    }

    /// A start that came to nothing.
    pub(super) async fn give_up(&self, id: &WorkerId) {
        self.mps.leave(id).await;
        self.leases.forget(id);
    }
}

#[cfg(test)]
impl super::WorkerSpawner {
    pub(crate) fn mps_daemons(&self) -> Vec<WorkerHandle> {
        self.attached().unwrap().mps.daemons()
    }
}
