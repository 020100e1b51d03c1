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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::GpuMemoryAction;
    use crate::{LimitKey, LimitValue, SandboxPlan, embedded};

    fn plan(devices: &str, facts: HostFacts) -> Result<SandboxPlan, Violation> {
        on("GPU-0", devices, facts)
    }

    fn on(device: &str, devices: &str, facts: HostFacts) -> Result<SandboxPlan, Violation> {
        let text = format!("[worker]\nbinary = \"x\"\n{devices}\n");
        let policy = Policy::parse("t", "t.toml", &text, &|name| embedded::fragment(name).map(str::to_owned)).unwrap();
        let request = serde_json::json!({"worker_id": "w", "policy": "t", "command": {"run": {"argv": ["x"]}}, "devices": [device],
            "env": {}, "limits": {}, "port": null});
        let request: WorkerRequest = serde_json::from_value(request).unwrap();
        super::super::compile(&policy, &request, &HostFacts { host_cpus: "0-7".into(), no_dmem: "no dmem here".into(), ..facts })
    }

    fn noted(plan: &SandboxPlan, setting: &str) -> Option<String> {
        plan.not_in_force.iter().find(|n| n.setting == setting).map(|n| n.why.clone())
    }

    const LEASED: &str = "[devices]\ngpus = \"leased\"\n";

    #[test]
    fn a_limit_of_gpu_memory_that_is_only_watched_is_refused_where_it_is_required_and_said_where_not() {
        let max = |enforce: &str| {
            format!("{LEASED}gpu_memory_max = {{ value = \"1GiB\", enforce = \"{enforce}\" }}\ngpu_memory_action = \"warn\"")
        };
        let refused = plan(&max("required"), HostFacts::default()).unwrap_err();
        assert!(
            matches!(&refused, Violation::NotEnforceable { setting, why } if setting == "devices.gpu_memory_max" && why.contains("no dmem here"))
        );
        let plan = plan(&max("if_available"), HostFacts::default()).unwrap();
        let soft = GpuMemoryPlan { limit_bytes: 1 << 30, action: GpuMemoryAction::Warn, enforced_by: Some(GpuMemoryEnforcer::Soft) };
        assert_eq!(plan.gpu_memory, Some(soft));
        assert!(noted(&plan, "devices.gpu_memory_max").unwrap().contains("watched"));
        assert_eq!(on("CPU-0", &max("required"), HostFacts::default()).unwrap().gpu_memory, None, "a worker on the CPU has none to exceed");
    }

    #[test]
    fn where_nobody_watches_nothing_is_said_to_hold_it() {
        let gpu_memory_watched = Ability::Missing { why: "nobody looks".into() };
        let max = format!("{LEASED}share = {{ memory = \"1GiB\" }}");
        let plan = plan(&max, HostFacts { gpu_memory_watched, ..HostFacts::default() }).unwrap();
        assert_eq!(plan.gpu_memory.map(|m| (m.limit_bytes, m.enforced_by)), Some((1 << 30, None)));
        assert!(noted(&plan, "devices.gpu_memory_max").unwrap().contains("nobody looks"));
    }

    #[test]
    fn mps_is_not_in_force_and_refuses_where_it_is_required() {
        let shared = |mps: &str| format!("{LEASED}share = {{ ways = 2 }}\nmps = \"{mps}\"");
        assert!(noted(&plan(&shared("if_available"), HostFacts::default()).unwrap(), "devices.mps").is_some());
        assert!(matches!(plan(&shared("required"), HostFacts::default()), Err(Violation::NotEnforceable { .. })));
        assert!(noted(&plan(&shared("off"), HostFacts::default()).unwrap(), "devices.mps").is_none());
    }

    #[test]
    fn a_worker_is_pinned_next_to_its_gpu_within_what_the_policy_allows() {
        let near = || HostFacts { cpuset: Some("4-7".into()), mems: Some("1".into()), ..HostFacts::default() };
        let cpuset = |plan: &SandboxPlan, key| plan.limits.get(&key).map(|l| l.value.clone());
        let affinity = format!("{LEASED}affinity = \"device\"\n");
        let pinned = plan(&affinity, near()).unwrap();
        assert_eq!(cpuset(&pinned, LimitKey::Cpuset), Some(LimitValue::Text("4-7".into())));
        assert_eq!(cpuset(&pinned, LimitKey::Mems), Some(LimitValue::Text("1".into())));
        let narrowed = plan(&format!("{affinity}[limits]\ncpuset = \"2-5\""), near()).unwrap();
        assert_eq!(cpuset(&narrowed, LimitKey::Cpuset), Some(LimitValue::Text("4-5".into())));
        let apart = plan(&format!("{affinity}[limits]\ncpuset = \"0-3\""), near()).unwrap_err();
        assert!(apart.to_string().contains("0-3 has nothing in common with 4-7"), "{apart}");
        let unknown = HostFacts { nowhere_near: vec!["the driver tells no NUMA node of GPU-0".into()], ..HostFacts::default() };
        let free = plan(&affinity, unknown).unwrap();
        assert_eq!((cpuset(&free, LimitKey::Cpuset), noted(&free, "devices.affinity").is_some()), (None, true));
    }
}
