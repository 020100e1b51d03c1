//! GPUs: what holds their memory limit, and what of the rest of `[devices]` this host can't do.
//!
//! Of a worker on the CPU nothing here is asked.

use super::Violation;
use crate::file::{Affinity, Policy};
use crate::plan::{GpuMemoryEnforcer, GpuMemoryPlan};
use crate::{Ability, Enforce, HostFacts, NotInForce, WorkerRequest};

/// Why there is no MPS: a daemon of NVIDIA's for each group of sharers, which nobody here starts.
const NO_MPS: &str = "this version starts no MPS control daemon; workers share a GPU by its own time slices";

pub(super) fn compile(
    policy: &Policy,
    request: &WorkerRequest,
    facts: &HostFacts,
    notes: &mut Vec<NotInForce>,
) -> Result<Option<GpuMemoryPlan>, Violation> {
    if !request.devices.iter().any(|name| name.starts_with("GPU-")) {
        return Ok(None);
    }
    let section = &policy.devices;
    if section.affinity == Affinity::Device {
        let note = |why: &String| NotInForce { setting: "devices.affinity".into(), why: why.clone() };
        notes.extend(facts.nowhere_near.iter().map(note));
    }
    if let Some(enforce) = section.mps.enforce() {
        left_out("devices.mps", enforce, NO_MPS.to_owned(), notes)?;
    }
    let Some(max) = section.gpu_memory_max else { return Ok(None) };
    let enforced_by = match &facts.gpu_memory_watched {
        Ability::There => Some(GpuMemoryEnforcer::Soft),
        Ability::Missing { .. } => None,
    };
    let why = match &facts.gpu_memory_watched {
        Ability::There => format!(
            "{}: what it uses is watched every few seconds, and nothing keeps it from more meanwhile; say enforce = \"if_available\" for that",
            facts.no_dmem
        ),
        Ability::Missing { why } => format!("{}, and {why}", facts.no_dmem),
    };
    left_out("devices.gpu_memory_max", max.enforce, why, notes)?;
    Ok(Some(GpuMemoryPlan { limit_bytes: max.value, action: section.gpu_memory_action, enforced_by }))
}

fn left_out(setting: &str, enforce: Enforce, why: String, notes: &mut Vec<NotInForce>) -> Result<(), Violation> {
    match enforce {
        Enforce::Required => Err(Violation::NotEnforceable { setting: setting.into(), why }),
        Enforce::IfAvailable => {
            notes.push(NotInForce { setting: setting.into(), why });
            Ok(())
        }
    }
}
