//! Whether an ended holder's memory is back. A process that is gone gives it back soon, not at once; some is never given back.
//!
//! What a GPU has in use while nobody holds it is remembered: back is what comes down to that. Where that is not known, or others hold the
//! GPU too, back is when the driver lists none of the holder's processes any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Finding, Look};

/// How long memory may take to come back; after that the GPU is taken out of use.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// What a driver's own use may differ by from one idle moment to another.
const TOLERANCE: u64 = 128 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct Release {
    /// Bytes in use when nobody held it.
    idle: Option<u64>,
    /// Processes of each holder when it was last seen alive.
    former: BTreeMap<String, BTreeSet<i32>>,
    leaked: BTreeSet<String>,
}

impl Release {
    pub(super) fn step(&mut self, look: Look<'_>, found: &mut Vec<Finding>) {
        let holders = look.holders();
        let ended = look.scene.releasing.get(&look.gpu);
        let releasing = |name: &String| ended.is_some_and(|ended| ended.contains_key(name));
        self.remember(look, &holders);
        self.former.retain(|name, _| holders.contains(name) || releasing(name));
        self.leaked.retain(&releasing);
        let others = holders.iter().any(|name| !releasing(name));
        for (name, since) in ended.into_iter().flatten() {
            let after = look.scene.now.saturating_sub(*since);
            match self.left(look, name, others) {
                None => {
                    self.leaked.remove(name);
                    found.push(Finding::Back { gpu: look.gpu, holder: name.clone(), after });
                }
                Some(why) if after >= DEADLINE && self.leaked.insert(name.clone()) => {
                    found.push(Finding::Leaked { gpu: look.gpu, holder: name.clone(), why });
                }
                Some(_) => {}
            }
        }
    }

    fn remember(&mut self, look: Look<'_>, holders: &BTreeSet<String>) {
        if look.seen.silent.is_some() {
            return;
        }
        let nobody = holders.is_empty() && look.scene.releasing.get(&look.gpu).is_none_or(BTreeMap::is_empty);
        let processes = look.seen.processes.as_deref().unwrap_or_default();
        if nobody && processes.is_empty() {
            self.idle = look.seen.memory_used_bytes.or(self.idle);
        }
        for process in processes {
            if let Some(owner) = look.scene.owners.get(&process.pid) {
                self.former.entry(owner.clone()).or_default().insert(process.pid);
            }
        }
    }

    /// What of the holder is still there; `None` where nothing is.
    fn left(&self, look: Look<'_>, name: &str, others: bool) -> Option<String> {
        if let Some(why) = &look.seen.silent {
            return Some(format!("the GPU does not answer ({why})"));
        }
        let former = self.former.get(name);
        let listed = look.seen.processes.as_deref().unwrap_or_default();
        let still: Vec<i32> = listed.iter().map(|p| p.pid).filter(|pid| former.is_some_and(|f| f.contains(pid))).collect();
        if !still.is_empty() {
            return Some(format!("the driver still lists its processes {still:?}"));
        }
        // Memory of others can't be told from what leaked, unless the driver says how much each of them has.
        let theirs = listed.iter().try_fold(0u64, |sum, p| sum.checked_add(p.memory_bytes?));
        match (look.seen.memory_used_bytes, self.idle, theirs) {
            (Some(used), Some(idle), Some(theirs)) if !others => {
                let expected = idle.saturating_add(theirs).saturating_add(TOLERANCE);
                (used > expected).then(|| format!("{used} bytes are in use, {idle} were before and {theirs} are other processes'"))
            }
            _ => None,
        }
    }
}
