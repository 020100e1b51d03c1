//! Workers that have outlived the launcher that made them: found by what lies on disk, verified, and taken on.
//!
//! ```text
//!  workers/<id>/plan.json ──► knock: is it that init, in that cgroup, at that socket? ──yes──► ledger, Found{Living}
//!                                                          └─no──► its cgroups swept ──► verdict.json? Found{Ended} : Found{Lost}
//! ```
//! Nothing is signalled by a number that a file says: what is not adopted is killed by its cgroup, which lies below our own locked root, and only
//! where nobody else is in it. Must never know: what the hive makes of it.

mod knock;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use rbee_hive_policy::WorkerId;

use super::Purpose;
use super::gpu_locks::Locked;
use super::ledger::{Entry, Kin};
use super::record::{Record, VerdictRecord};
use super::serve::Launcher;
use crate::protocol::{FoundHow, FromLauncher, LaunchError};
use crate::step::CallError;
use knock::{Alive, Caller, Known, Named};
pub(super) use tell::Tidings;

/// A directory from an earlier launcher's time.
struct Seen {
    id: WorkerId,
    record: Result<Record, String>,
}

impl Launcher {
    /// Takes on what lives, and clears away what does not; the hive is told of each.
    ///
    /// Errors: the directories can't be listed. Nothing was touched then.
    pub(super) fn adopt(&mut self) -> Result<(), LaunchError> {
        if self.options.purpose == Purpose::Run {
            // Its directories and its cgroups are its own from the start.
            self.tree.sweep(&BTreeSet::new());
            return Ok(());
        }
        let (mut calls, mut others) = (Vec::new(), Vec::new());
        for seen in self.look()? {
            match self.knock(&seen) {
                Ok(caller) => calls.push((seen, caller)),
                Err(why) => others.push((seen, why)),
            }
        }
        let (living, ended) = knock::hear(calls);
        others.extend(ended);
        let spared: BTreeSet<WorkerId> = living.iter().map(|(seen, _)| seen.id.clone()).collect();
        let mut left = self.tree.sweep(&spared);
        for (seen, alive) in living {
            self.take_on(seen, alive);
        }
        for (seen, why) in others {
            self.tell_gone(seen, why, &mut left);
        }
        self.tidings.seal();
        Ok(())
    }

    /// Whoever has a cgroup may live, and is looked at before those that have a directory alone.
    fn look(&self) -> Result<Vec<Seen>, LaunchError> {
        let there = self.tree.worker_ids();
        let listed = self.directories.workers(|id| there.contains(id));
        let ids = listed.map_err(|e| LaunchError::setup("list the workers' directories", CallError::new("getdents(workers)", e)))?;
        let look = |id: WorkerId| {
            let state = self.directories.old_state_of(id.as_str());
            let record = state.and_then(|state| Record::read(state.as_fd(), id.as_str()));
            Seen { id, record }
        };
        Ok(ids.into_iter().map(look).collect())
    }

    fn knock(&self, seen: &Seen) -> Result<Caller, Gone> {
        let record = seen.record.as_ref().map_err(|why| Gone::unknown(why.clone()))?;
        let state = self.directories.old_state_of(seen.id.as_str()).map_err(Gone::unknown)?;
        let known = Known { record, state: &state, boot_id: &self.boot_id };
        known.knock(|groups| self.tree.holds(&seen.id, groups))
    }

    /// Puts it back into the ledger as it was.
    fn take_on(&mut self, seen: Seen, alive: Alive) {
        let Seen { id, record: Ok(mut record), .. } = seen else { return };
        record.init = Some(alive.named.init);
        let mut held = alive.held.into_iter();
        // Fewer than it should have: their bytes stay locked by the init all the same, and are nobody else's.
        let locks: Vec<Locked> =
            record.locks.iter().zip(held.by_ref()).map(|(number, file)| Locked::held(*number, file, &self.ledger)).collect();
        let uid = held.next().filter(|_| record.uid_locked);
        let pidfd = match alive.named.pidfd.try_clone() {
            Ok(pidfd) => pidfd,
            Err(e) => {
                let left = vec![format!("its init, process {}, runs on", alive.named.init.pid)];
                let how = FoundHow::Lost { why: format!("no descriptor is left for it: {e}"), left };
                return self.tidings.push(found(&id, Some(&record), how), vec![]);
            }
        };
        tracing::info!(worker = %id, init = alive.named.init.pid, "a worker has outlived its hive and is adopted");
        let message = found(&id, Some(&record), FoundHow::Living);
        self.tidings.push(message, vec![pidfd, alive.control]);
        let entry = Entry { pidfd: alive.named.pidfd, kin: Kin::Adopted, record, locks, uid, ended: None };
        self.ledger.entries.insert(id, entry);
    }

    /// Tells of one that does not live, or is not known to be ours; its cgroups are swept by now.
    fn tell_gone(&mut self, seen: Seen, gone: Gone, left: &mut BTreeMap<String, Vec<String>>) {
        let mut stays = left.remove(&seen.id.cgroup_name()).unwrap_or_default();
        stays.extend(gone.runs_on());
        let record = seen.record.as_ref().ok();
        if let Some(record) = record.filter(|_| !stays.is_empty()) {
            // Something of it may still be on them.
            self.ledger.stuck.extend(record.locks.iter().map(|number| (*number, seen.id.clone())));
        }
        let state = self.directories.old_state_of(seen.id.as_str());
        let verdict = state.and_then(|state| VerdictRecord::read(state.as_fd(), seen.id.as_str()));
        let how = match verdict {
            Ok(written) => FoundHow::Ended { verdict: Some(written.verdict), resources: Some(written.resources) },
            Err(_) => FoundHow::Lost { why: gone.why, left: stays },
        };
        tracing::info!(worker = %seen.id, ?how, "a worker of before is not there any more");
        self.tidings.push(found(&seen.id, record, how), vec![]);
    }
}

/// Why a worker is not adopted.
struct Gone {
    why: String,
    /// Its init, where it was seen to live all the same.
    alive: Option<Named>,
}

impl Gone {
    fn unknown(why: impl Into<String>) -> Self {
        Self { why: why.into(), alive: None }
    }

    /// What of it runs on although its cgroups were swept.
    fn runs_on(&self) -> Option<String> {
        let named = self.alive.as_ref().filter(|named| !knock::has_ended(&named.pidfd, knock::DYING))?;
        Some(format!("its init, process {}, runs on and is left alone", named.init.pid))
    }
}

fn found(id: &WorkerId, record: Option<&Record>, how: FoundHow) -> FromLauncher {
    FromLauncher::Found {
        worker_id: id.clone(),
        plan: record.map(|record| record.plan.clone()),
        cgroup: record.and_then(|record| record.cgroup.clone()),
        init_pid: record.and_then(|record| record.init).map(|init| init.pid),
        not_in_force: record.map(|record| record.plan.not_in_force.clone()).unwrap_or_default(),
        policy_digest: record.map(|record| record.policy_digest),
        how,
    }
}
