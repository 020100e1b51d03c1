//! Limits of GPU memory that nothing but accounting holds: told when it is exceeded, to be stopped when that lasts.
//!
//! ```text
//!  within ──over──► over (told) ──over for longer──► exceeded (told once)
//!     ◄──within──────┘ ◄──within──────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Finding, Scene, Usage};

/// A limit that is only watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most bytes on each GPU.
    pub limit: u64,
    /// The worker's GPUs.
    pub gpus: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct OverSince {
    since: Duration,
    told: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Budgets {
    over: BTreeMap<String, OverSince>,
}

impl Budgets {
    /// `patience`: how long a worker may be over its limit before it is to be stopped. A peak of a moment is no reason.
    pub(super) fn step(&mut self, (usage, patience): (&Usage, Duration), scene: &Scene, found: &mut Vec<Finding>) {
        self.over.retain(|worker, _| scene.budgets.contains_key(worker));
        for (worker, budget) in &scene.budgets {
            let known = budget.gpus.iter().filter_map(|gpu| Some((*gpu, usage.on(worker, *gpu)?)));
            let most = known.max_by_key(|(_, used)| *used).filter(|(_, used)| *used > budget.limit);
            let all_known = budget.gpus.iter().all(|gpu| usage.on(worker, *gpu).is_some());
            let (worker, limit) = (worker.clone(), budget.limit);
            match (most, self.over.get_mut(&worker)) {
                (Some((gpu, used)), None) => {
                    self.over.insert(worker.clone(), OverSince { since: scene.now, told: false });
                    found.push(Finding::Over { worker, gpu, used, limit });
                }
                (Some((gpu, used)), Some(over)) if !over.told && scene.now.saturating_sub(over.since) >= patience => {
                    over.told = true;
                    found.push(Finding::Exceeded { worker, gpu, used, limit });
                }
                // What is not known is neither over nor within.
                (None, Some(_)) if all_known => {
                    self.over.remove(&worker);
                    found.push(Finding::Within { worker });
                }
                _ => {}
            }
        }
    }
}
