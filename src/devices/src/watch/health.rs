//! Whether a GPU answers, and the faults that its driver tells of.
//!
//! ```text
//!  whole ──silent, or a hardware fault──► drained ──good answers in a row──► whole
//! ```

use std::collections::VecDeque;

use super::{Finding, Look};
use crate::xid::{XidClass, xid};

/// Answers in a row without a new fault that make it whole again.
const GOOD_ANSWERS: u32 = 3;
/// Faults that are remembered, so that one that is read twice is told once.
const REMEMBERED: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// Good answers since it was drained; `None` while it is whole.
    drained: Option<u32>,
    told: VecDeque<String>,
}

impl Health {
    pub(super) fn step(&mut self, look: Look<'_>, found: &mut Vec<Finding>) {
        let mut bad = look.seen.silent.clone();
        for fault in &look.seen.xids {
            if self.told.contains(&fault.id) {
                continue;
            }
            self.told.truncate(REMEMBERED - 1);
            self.told.push_front(fault.id.clone());
            let (class, meaning) = xid(fault.code);
            let blamed = fault.pid.and_then(|pid| look.scene.owners.get(&pid)).filter(|_| class != XidClass::Hardware);
            let workers = blamed.map_or_else(|| look.holders().into_iter().collect(), |worker| vec![worker.clone()]);
            found.push(Finding::Fault { gpu: look.gpu, code: fault.code, class, meaning, pid: fault.pid, workers });
            if class == XidClass::Hardware {
                bad.get_or_insert_with(|| format!("Xid {}: {meaning}", fault.code));
            }
        }
        match (bad, self.drained) {
            (Some(why), None) => {
                self.drained = Some(0);
                found.push(Finding::Drained { gpu: look.gpu, why });
            }
            (Some(_), Some(_)) => self.drained = Some(0),
            (None, Some(good)) if good + 1 >= GOOD_ANSWERS => self.drained = None,
            (None, Some(good)) => self.drained = Some(good + 1),
            (None, None) => {}
        }
    }

    /// Out of use since before a restart: good answers are counted anew.
    pub(super) fn restore(&mut self, drained: bool) {
        if drained {
            self.drained = Some(0);
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained.is_some()
    }
}
