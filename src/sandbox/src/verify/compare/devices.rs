//! The device policy: the v1 list as written, the v2 program still attached.

use crate::cgroup::device_list_differs;
use crate::protocol::ProgramSeen;
use crate::verify::{Aspect, Drift, Expected, Findings, Outside};

pub(super) fn list(expected: &Expected, outside: &Outside) -> Vec<Drift> {
    let Some(text) = &outside.device_list else { return vec![] };
    let (more, less) = device_list_differs(&expected.plan.devices, text);
    let mut drift = Vec::new();
    if !more.is_empty() {
        let text = format!("the cgroup's devices.list allows {}, which is not planned", more.join(", "));
        drift.push(Drift::new(Aspect::Devices, text));
    }
    if !less.is_empty() {
        drift.push(Drift::new(Aspect::Devices, format!("the cgroup's devices.list lacks {}, which is planned", less.join(", "))));
    }
    drift
}

pub(super) fn program(program: &ProgramSeen, found: &mut Findings) {
    if let Some(error) = &program.error {
        found.unseen.push(format!("the device program: {error}"));
        return;
    }
    if let Some(ours) = program.ours.filter(|ours| !program.attached.contains(ours)) {
        let text = format!("the device program {ours} is no longer attached to the worker's cgroup");
        found.drift.push(Drift::new(Aspect::Devices, text));
    }
}
