//! GPUs: what holds their memory limit, and what of the rest of `[devices]` this host can't do.
//!
//! Of a worker on the CPU nothing here is asked.

use std::collections::BTreeMap;

use super::Violation;
use crate::file::{Affinity, Policy, Setting};
use crate::plan::{GpuMemoryEnforcer, GpuMemoryPlan};
use crate::{
    Ability, Enforce, GpuShare, HostFacts, LimitKey, LimitValue, Limits, MpsPlan, NotInForce, PlannedLimit, RegionLimits, SandboxPlan,
    WorkerRequest,
};

/// What is limited, and what is not in force.
type Outcome<'a> = (&'a mut Limits, &'a mut Vec<NotInForce>);

pub(super) fn compile(
    policy: &Policy,
    request: &WorkerRequest,
    (facts, mps): (&HostFacts, Option<&MpsPlan>),
    (limits, notes): Outcome<'_>,
) -> Result<Option<GpuMemoryPlan>, Violation> {
    let gpus: Vec<&str> = request.devices.iter().map(String::as_str).filter(|name| name.starts_with("GPU-")).collect();
    if gpus.is_empty() {
        return Ok(None);
    }
    let section = &policy.devices;
    if section.affinity == Affinity::Device {
        let note = |why: &String| NotInForce { setting: "devices.affinity".into(), why: why.clone() };
        notes.extend(facts.nowhere_near.iter().map(note));
    }
    let Some(max) = limit(policy, request.lease.as_ref().map(|lease| lease.share)) else { return Ok(None) };
    let plan = |enforced_by| Ok(Some(GpuMemoryPlan { limit_bytes: max.value, action: section.gpu_memory_action, enforced_by }));
    let no_dmem = match regions(&gpus, facts) {
        Ok(regions) => {
            limit_regions(limits, &regions, &max);
            return plan(Some(GpuMemoryEnforcer::Dmem));
        }
        Err(why) => why,
    };
    let (enforced_by, why) = match &facts.gpu_memory_watched {
        _ if mps.is_some() => (
            Some(GpuMemoryEnforcer::Mps),
            format!(
                "{no_dmem}: the MPS server holds what goes through it, and nothing keeps a program from going past it by taking CUDA_MPS_* out of \
                 its environment (but the compute mode EXCLUSIVE_PROCESS of the GPU); say enforce = \"if_available\" for that"
            ),
        ),
        Ability::There => (
            Some(GpuMemoryEnforcer::Soft),
            format!(
                "{no_dmem}: what it uses is watched every few seconds, and nothing keeps it from more meanwhile; say enforce = \"if_available\" \
                 for that"
            ),
        ),
        Ability::Missing { why } => (None, format!("{no_dmem}, and {why}")),
    };
    left_out("devices.gpu_memory_max", max.enforce, why, notes)?;
    plan(enforced_by)
}

/// The policy's limit, and no more than was leased: what a narrower share leaves is promised to others.
fn limit(policy: &Policy, share: Option<GpuShare>) -> Option<Setting<u64>> {
    let leased = match share {
        Some(GpuShare::Memory(bytes)) => Some(bytes),
        Some(GpuShare::Exclusive | GpuShare::Ways(_)) | None => None,
    };
    match (policy.devices.gpu_memory_max, leased) {
        (Some(max), Some(bytes)) => Some(Setting { value: max.value.min(bytes), ..max }),
        // As where the policy itself gives a share of the memory.
        (None, Some(bytes)) => Some(Setting { value: bytes, enforce: Enforce::IfAvailable }),
        (max, None) => max,
    }
}

/// The limit of GPU memory in the kernel's regions once more, after something else was asked for.
pub(super) fn hold(policy: &Policy, plan: &SandboxPlan, facts: &HostFacts, limits: &mut Limits) {
    let gpus: Vec<&str> = plan.leased.iter().map(String::as_str).filter(|name| name.starts_with("GPU-")).collect();
    // What the worker was started with is what was leased for it.
    let leased = plan.gpu_memory.as_ref().map(|memory| GpuShare::Memory(memory.limit_bytes));
    if let (false, Some(max), Ok(regions)) = (gpus.is_empty(), limit(policy, leased), regions(&gpus, facts)) {
        limit_regions(limits, &regions, &max);
    }
}

/// The kernel's regions of each GPU's own memory (`drm/<PCI address>/vram<n>`), or why not all of them have one.
fn regions<'f>(gpus: &[&str], facts: &'f HostFacts) -> Result<Vec<Vec<&'f String>>, String> {
    if let Some(why) = facts.unenforceable.get(&LimitKey::Dmem) {
        return Err(why.clone());
    }
    let of = |gpu: &&str| {
        let pci = facts.gpu_pci.get(*gpu);
        let own = |name: &&String| pci.is_some_and(|pci| name.starts_with(&format!("drm/{pci}/vram")));
        let found: Vec<&String> = facts.dmem_regions.iter().filter(own).collect();
        if found.is_empty() { Err(format!("no region of device memory is told to be {gpu}'s")) } else { Ok(found) }
    };
    gpus.iter().map(of).collect()
}

/// A GPU of several regions has its limit in equal parts: together they are never more. Where the policy bounds a region itself, the lower counts.
fn limit_regions(limits: &mut Limits, gpus: &[Vec<&String>], max: &Setting<u64>) {
    let given = limits.get(&LimitKey::Dmem).map(|limit| (limit.enforce, limit.value.clone()));
    let mut bounds = match &given {
        Some((_, LimitValue::Text(text))) => text.parse().unwrap_or_else(|_| RegionLimits(BTreeMap::new())),
        _ => RegionLimits(BTreeMap::new()),
    };
    for regions in gpus {
        let part = max.value / regions.len().max(1) as u64;
        for name in regions {
            let bound = bounds.0.entry((*name).clone()).or_insert(part);
            *bound = part.min(*bound);
        }
    }
    let enforce = if given.is_some_and(|(enforce, _)| enforce == Enforce::Required) { Enforce::Required } else { max.enforce };
    limits.insert(LimitKey::Dmem, PlannedLimit { value: LimitValue::Text(bounds.to_string()), enforce });
}

pub(super) fn left_out(setting: &str, enforce: Enforce, why: String, notes: &mut Vec<NotInForce>) -> Result<(), Violation> {
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
    use crate::embedded;
    use crate::file::GpuMemoryAction;

    fn plan(devices: &str, facts: HostFacts) -> Result<SandboxPlan, Violation> {
        on("GPU-0", devices, facts)
    }

    fn on(device: &str, devices: &str, facts: HostFacts) -> Result<SandboxPlan, Violation> {
        leased((device, None), devices, facts)
    }

    fn leased((device, share): (&str, Option<GpuShare>), devices: &str, facts: HostFacts) -> Result<SandboxPlan, Violation> {
        let text = format!("[worker]\nbinary = \"x\"\n{devices}\n");
        let policy = Policy::parse("t", "t.toml", &text, &|name| embedded::fragment(name).map(str::to_owned)).unwrap();
        let request = serde_json::json!({"worker_id": "w", "policy": "t", "command": {"run": {"argv": ["x"]}}, "devices": [device],
            "lease": share.map(|share| serde_json::json!({"id": "lease:1", "share": share})), "env": {}, "limits": {}, "port": null});
        let request: WorkerRequest = serde_json::from_value(request).unwrap();
        super::super::compile(&policy, &request, &HostFacts { host_cpus: "0-7".into(), ..facts })
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
            matches!(&refused, Violation::NotEnforceable { setting, why } if setting == "devices.gpu_memory_max" && why.contains("told to be GPU-0's"))
        );
        let plan = plan(&max("if_available"), HostFacts::default()).unwrap();
        let soft = GpuMemoryPlan { limit_bytes: 1 << 30, action: GpuMemoryAction::Warn, enforced_by: Some(GpuMemoryEnforcer::Soft) };
        assert_eq!(plan.gpu_memory, Some(soft));
        assert!(noted(&plan, "devices.gpu_memory_max").unwrap().contains("watched"));
        assert_eq!(on("CPU-0", &max("required"), HostFacts::default()).unwrap().gpu_memory, None, "a worker on the CPU has none to exceed");
    }

    #[test]
    fn a_narrower_lease_is_the_limit_and_no_update_lifts_it() {
        let limit = |share, devices: &str, facts: HostFacts| {
            leased(("GPU-0", share), &format!("{LEASED}{devices}\n[request]\nmay_set = [\"limits\"]"), facts).unwrap()
        };
        let bytes = |plan: &SandboxPlan| plan.gpu_memory.as_ref().map(|memory| memory.limit_bytes);
        let two = Some(GpuShare::Memory(2 << 30));
        let both = "share = { memory = \"5GiB\" }\ngpu_memory_max = { value = \"5GiB\", enforce = \"if_available\" }";
        assert_eq!(bytes(&limit(two, both, HostFacts::default())), Some(2 << 30));
        assert_eq!(bytes(&limit(two, "share = { memory = \"5GiB\" }", HostFacts::default())), Some(2 << 30));
        assert_eq!(bytes(&limit(None, both, HostFacts::default())), Some(5 << 30));
        let narrow = both.replace("max = { value = \"5GiB\"", "max = { value = \"1GiB\"");
        assert_eq!(bytes(&limit(two, &narrow, HostFacts::default())), Some(1 << 30), "the policy's is the lower one");
        assert_eq!(bytes(&limit(two, "", HostFacts::default())), Some(2 << 30), "the lease alone");
        assert_eq!(bytes(&limit(Some(GpuShare::Ways(2)), "share = { ways = 2 }", HostFacts::default())), None);

        let region = "drm/0000:03:00.0/vram0";
        let facts = || HostFacts {
            host_cpus: "0-7".into(),
            dmem_regions: [region.to_owned()].into(),
            gpu_pci: [("GPU-0".to_owned(), "0000:03:00.0".to_owned())].into(),
            ..HostFacts::default()
        };
        let held = limit(two, both, facts());
        let text = LimitValue::Text(format!("{region}=2GiB"));
        assert_eq!(held.limits[&LimitKey::Dmem].value, text);
        let policy = format!("[worker]\nbinary = \"x\"\n{LEASED}{both}\n[request]\nmay_set = [\"limits\"]\n");
        let policy = Policy::parse("t", "t.toml", &policy, &|name| embedded::fragment(name).map(str::to_owned)).unwrap();
        let after = crate::update(&policy, &held, &[(LimitKey::Dmem, LimitValue::Text("max".into()))].into(), &facts()).unwrap();
        assert_eq!(after[&LimitKey::Dmem].value, text);
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

    #[test]
    fn where_the_kernel_has_the_gpus_memory_it_holds_the_limit() {
        let region = |n: u32| format!("drm/0000:0{n}:00.0/vram0");
        let gpu_pci: BTreeMap<String, String> = [("GPU-0".to_owned(), "0000:03:00.0".to_owned())].into();
        let here = || HostFacts {
            dmem_regions: [region(3), region(4), "drm/0000:03:00.0/stolen".into()].into(),
            gpu_pci: gpu_pci.clone(),
            ..HostFacts::default()
        };
        let dmem = |plan: &SandboxPlan| plan.limits.get(&LimitKey::Dmem).cloned();
        let max = format!("{LEASED}gpu_memory_max = \"1GiB\"");
        let held = plan(&max, here()).unwrap();
        assert_eq!(held.gpu_memory.and_then(|m| m.enforced_by), Some(GpuMemoryEnforcer::Dmem));
        let value = LimitValue::Text("drm/0000:03:00.0/vram0=1GiB".into());
        assert_eq!(dmem(&held), Some(PlannedLimit { value, enforce: Enforce::Required }), "of its own memory alone");
        assert_eq!(noted(&held, "devices.gpu_memory_max"), None);
        let text = format!("[worker]\nbinary = \"x\"\n{max}\n[request]\nmay_set = [\"limits\"]\n");
        let policy = Policy::parse("t", "t.toml", &text, &|name| embedded::fragment(name).map(str::to_owned)).unwrap();
        let asked = [(LimitKey::Dmem, LimitValue::Text("max".into()))].into();
        let after = crate::update(&policy, &held, &asked, &HostFacts { host_cpus: "0-7".into(), ..here() }).unwrap();
        assert_eq!(after[&LimitKey::Dmem].value, held.limits[&LimitKey::Dmem].value, "no update lifts the policy's limit");
        let mut tiles = here();
        tiles.dmem_regions.insert("drm/0000:03:00.0/vram1".into());
        let split = LimitValue::Text("drm/0000:03:00.0/vram0=512MiB; drm/0000:03:00.0/vram1=512MiB".into());
        assert_eq!(dmem(&plan(&max, tiles).unwrap()).map(|l| l.value), Some(split));
        let unenforceable = [(LimitKey::Dmem, "this kernel has no dmem".to_owned())].into();
        assert!(plan(&max, HostFacts { unenforceable, ..here() }).unwrap_err().to_string().contains("this kernel has no dmem"));
    }
}
