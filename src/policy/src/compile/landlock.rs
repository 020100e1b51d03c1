//! Whether the worker's Landlock domain is required, and what of it a kernel's ABI lacks.

use super::Violation;
use crate::HostFacts;
use crate::file::{LandlockMode, Policy};
use crate::plan::{LandlockPlan, NetworkMode, NotInForce};

/// What each ABI added, of what is used here (landlock(7)).
const PARTS: [(u32, &str); 6] = [
    (1, "files"),
    (2, "links and renames between directories"),
    (3, "truncation"),
    (4, "TCP ports"),
    (5, "ioctl on devices"),
    (6, "signals and abstract sockets"),
];

pub(super) fn compile(policy: &Policy, facts: &HostFacts, notes: &mut Vec<NotInForce>) -> Result<Option<LandlockPlan>, Violation> {
    let missing: Vec<&str> = PARTS.iter().filter(|(abi, _)| *abi > facts.landlock_abi).map(|(_, part)| *part).collect();
    let why = match facts.landlock_abi {
        0 => "this kernel has no Landlock, or was booted without it (lsm=landlock,…)".to_owned(),
        abi => format!("this kernel's Landlock (ABI {abi}) does not cover {}", missing.join(", ")),
    };
    match policy.landlock.enforce {
        LandlockMode::None => return Ok(None),
        LandlockMode::Required if !missing.is_empty() => return Err(Violation::NotEnforceable { setting: "landlock".into(), why }),
        LandlockMode::IfAvailable if !missing.is_empty() => notes.push(NotInForce { setting: "landlock".into(), why }),
        LandlockMode::Required | LandlockMode::IfAvailable => {}
    }
    let closed_ports = match policy.network {
        NetworkMode::Host => facts.hive_ports.clone(),
        NetworkMode::Private | NetworkMode::None => vec![],
    };
    Ok((facts.landlock_abi > 0).then_some(LandlockPlan { abi: facts.landlock_abi, closed_ports }))
}
