//! Whether a GPU answers, and the faults that its driver tells of.
//!
//! ```text
//!  whole ──silent, or a hardware fault──► drained ──good answers in a row──► whole
//!                                            └─ after a fault that only a reset mends: none counts before somebody says it was reset
//! ```
//! A fault of no known number drains nothing: most of those that NVIDIA's list has beside ours are a program's, or for information.

use std::collections::VecDeque;

use super::{Finding, Look};
use crate::xid::{XidClass, needs_a_reset, xid};

/// Answers in a row without a new fault that make it whole again.
const GOOD_ANSWERS: u32 = 3;
/// Faults that are remembered, so that one that is read twice is told once.
const REMEMBERED: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// Good answers since it was drained; `None` while it is whole.
    drained: Option<u32>,
    needs_reset: bool,
    told: VecDeque<String>,
}

impl Health {
    pub(super) fn step(&mut self, look: Look<'_>, found: &mut Vec<Finding>) {
        let (before, mut fault_of_its_own) = (self.needs_reset, None);
        for fault in &look.seen.xids {
            if self.told.contains(&fault.id) {
                continue;
            }
            self.told.truncate(REMEMBERED - 1);
            self.told.push_front(fault.id.clone());
            let (class, meaning) = xid(fault.code);
            // Who holds no GPU, as an MPS daemon, has it from its clients: which one's fault it is, is not known then.
            let holds = |owner: &&String| look.scene.holders.values().any(|holders| holders.contains(*owner));
            let blamed = fault.pid.and_then(|pid| look.scene.owners.get(&pid)).filter(holds).filter(|_| class != XidClass::Hardware);
            let workers = blamed.map_or_else(|| look.holders().into_iter().collect(), |worker| vec![worker.clone()]);
            found.push(Finding::Fault { gpu: look.gpu, code: fault.code, class, meaning, pid: fault.pid, workers });
            if class == XidClass::Hardware {
                let reset = needs_a_reset(fault.code);
                let remedy = if reset { ": reset it, and say so with device_heal" } else { "" };
                let text = format!("Xid {}: {meaning}{remedy}", fault.code);
                // Of several the first, and before that the first that only a reset mends.
                match reset && !self.needs_reset {
                    true => fault_of_its_own = Some(text),
                    false => drop(fault_of_its_own.get_or_insert(text)),
                }
                self.needs_reset |= reset;
            }
        }
        // A driver that falls silent may tell why in the same look.
        let bad: Vec<String> = look.seen.silent.clone().into_iter().chain(fault_of_its_own).collect();
        let bad = (!bad.is_empty()).then(|| bad.join("; "));
        match (bad, self.drained) {
            (Some(why), None) => {
                self.drained = Some(0);
                found.push(Finding::Drained { gpu: look.gpu, why });
            }
            (Some(why), Some(_)) => {
                self.drained = Some(0);
                // What was told of it before says nothing of the reset that it waits for.
                if self.needs_reset && !before {
                    found.push(Finding::Drained { gpu: look.gpu, why });
                }
            }
            (None, Some(_)) if self.needs_reset => {}
            (None, Some(good)) if good + 1 >= GOOD_ANSWERS => self.drained = None,
            (None, Some(good)) => self.drained = Some(good + 1),
            (None, None) => {}
        }
    }

    /// Out of use since before a restart: good answers are counted anew.
    pub(super) fn restore(&mut self, (drained, needs_reset): (bool, bool)) {
        if drained {
            (self.drained, self.needs_reset) = (Some(0), needs_reset);
        }
    }

    pub(super) fn needs_reset(&self) -> bool {
        self.needs_reset
    }

    /// It was reset: good answers count again.
    pub(super) fn was_reset(&mut self) {
        self.needs_reset = false;
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained.is_some()
    }
}
