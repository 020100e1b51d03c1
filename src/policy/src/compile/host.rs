//! Limits in the terms of one host: its devices, page sizes, CPUs and memory.
//!
//! A policy is written for many hosts: more memory or CPUs than this one has is no error there, and bounds less than the host does. Who asks
//! for so much by name is told, because a wish that means nothing is a mistake.

use std::collections::BTreeMap;

use super::Violation;
use super::limits::at;
use crate::explain::show;
use crate::file::Policy;
use crate::limit::{BlockLimits, PageLimits, RegionLimits};
use crate::units::NumberList;
use crate::{Enforce, HostFacts, LimitKey, LimitValue, Limits, NotInForce, WorkerRequest};

/// Length of a period in microseconds: what `cpus` is a share of.
const PERIOD_US: f64 = 100_000.0;

/// The policy's limits with the host's names in them; those that the request replaces are left out.
pub(super) fn in_its_names(
    policy: &Policy,
    request: &WorkerRequest,
    facts: &HostFacts,
    notes: &mut Vec<NotInForce>,
) -> Result<Limits, Violation> {
    let mut limits = Limits::new();
    for (key, limit) in policy.limits.iter().filter(|(key, _)| !request.limits.contains_key(key)) {
        match (named(*key, &limit.value, facts), limit.enforce) {
            (Ok(value), enforce) => drop(limits.insert(*key, crate::PlannedLimit { value, enforce })),
            (Err(why), Enforce::IfAvailable) => notes.push(NotInForce { setting: key.name().into(), why }),
            (Err(why), Enforce::Required) => return Err(Violation::NotEnforceable { setting: key.name().into(), why }),
        }
    }
    Ok(limits)
}

/// A value with the host's own names in it; the reason where it has no such thing. What can't be enforced at all keeps the names that it has.
pub(super) fn named(key: LimitKey, value: &LimitValue, facts: &HostFacts) -> Result<LimitValue, String> {
    let text = match value {
        LimitValue::Text(text) if key.is_named() && !value.is_max() && !facts.unenforceable.contains_key(&key) => text,
        _ => return Ok(value.clone()),
    };
    let bounds = match key {
        LimitKey::IoMax => blocks(text, facts)?.to_string(),
        LimitKey::Hugetlb => pages(text, facts)?.to_string(),
        _ => regions(text, facts)?.to_string(),
    };
    Ok(LimitValue::Text(bounds))
}

fn blocks(text: &str, facts: &HostFacts) -> Result<BlockLimits, String> {
    let given: BlockLimits = text.parse().map_err(|e: crate::InvalidNamed| e.problem)?;
    let mut here = BTreeMap::new();
    for (name, bounds) in given.0 {
        let number = facts.block_devices.get(&name).ok_or_else(|| format!("this host has no block device {name}"))?;
        if here.insert(number.clone(), bounds).is_some() {
            return Err(format!("{name} is on the disk {number}, which another entry bounds already"));
        }
    }
    Ok(BlockLimits(here))
}

fn pages(text: &str, facts: &HostFacts) -> Result<PageLimits, String> {
    let given: PageLimits = text.parse().map_err(|e: crate::InvalidNamed| e.problem)?;
    match given.0.keys().find(|size| !facts.huge_pages.contains(size)) {
        Some(size) => {
            let there = show::words(facts.huge_pages.iter().map(|size| show::size(*size)));
            Err(format!("this host has no huge pages of {}; its sizes: {there}", show::size(*size)))
        }
        None => Ok(given),
    }
}

fn regions(text: &str, facts: &HostFacts) -> Result<RegionLimits, String> {
    let given: RegionLimits = text.parse().map_err(|e: crate::InvalidNamed| e.problem)?;
    match given.0.keys().find(|name| !facts.dmem_regions.contains(*name)) {
        Some(name) => Err(format!("this host has no region {name} of device memory; its regions: {}", show::words(&facts.dmem_regions))),
        None => Ok(given),
    }
}

/// What is asked for and is more than the whole host has.
pub(super) fn check_size(key: LimitKey, value: &LimitValue, facts: &HostFacts) -> Result<(), Violation> {
    let cpus = facts.host_cpus.parse::<NumberList>().map(|list| list.0.len()).unwrap_or_default();
    let more = |bytes: u64, there: u64, of: &str| format!("{} is more than this host has{of}, {}", show::size(bytes), show::size(there));
    let problem = match (key, value, facts.memory) {
        (LimitKey::MemoryMax | LimitKey::MemoryHigh | LimitKey::MemoryLow, LimitValue::Count(bytes), Some(memory)) if *bytes > memory => {
            more(*bytes, memory, "")
        }
        (LimitKey::SwapMax, LimitValue::Count(bytes), _) if facts.swap.is_some_and(|swap| *bytes > swap) => {
            more(*bytes, facts.swap.unwrap_or_default(), " of swap")
        }
        (LimitKey::Hugetlb, LimitValue::Text(text), _) => match beyond_pools(text, facts) {
            Some((size, bytes, pool)) => more(bytes, pool, &format!(" in huge pages of {}", show::size(size))),
            None => return Ok(()),
        },
        (LimitKey::Cpus, LimitValue::Decimal(asked), _) if cpus > 0 && *asked > cpus as f64 => {
            format!("{asked} is more than the CPUs of this host, {cpus}")
        }
        _ => return Ok(()),
    };
    Err(Violation::invalid(&at(key), problem))
}

/// The first bound that is more than all pages of its size: size, bound and what there is, bytes.
fn beyond_pools(text: &str, facts: &HostFacts) -> Option<(u64, u64, u64)> {
    let bounds = text.parse::<PageLimits>().ok()?.0;
    let mut with_pool = bounds.into_iter().filter_map(|(size, bytes)| Some((size, bytes, *facts.huge_page_pools.get(&size)?)));
    with_pool.find(|(_, bytes, pool)| bytes > pool)
}

/// Lists name what the host has.
pub(super) fn check_lists(limits: &Limits, facts: &HostFacts) -> Result<(), Violation> {
    for (key, there, what) in [(LimitKey::Cpuset, &facts.host_cpus, "CPUs"), (LimitKey::Mems, &facts.host_mems, "memory nodes")] {
        let Some(LimitValue::Text(text)) = limits.get(&key).map(|l| &l.value) else { continue };
        let (Ok(wanted), Ok(there)) = (text.parse::<NumberList>(), there.parse::<NumberList>()) else { continue };
        let missing = wanted.without(&there);
        if !missing.is_empty() {
            let why = format!("this host has the {what} {there}, not {missing}");
            return Err(Violation::NotEnforceable { setting: key.name().into(), why });
        }
    }
    Ok(())
}

/// Nobody is slowed down at more than is allowed, and no more than that can be protected.
pub(super) fn check_memory(limits: &Limits) -> Result<(), Violation> {
    let count = |key: LimitKey| limits.get(&key).and_then(|l| l.value.count());
    let Some(max) = count(LimitKey::MemoryMax) else { return Ok(()) };
    for key in [LimitKey::MemoryHigh, LimitKey::MemoryLow] {
        if let Some(value) = count(key).filter(|value| *value > max) {
            let text = format!("{} is above memory_max, {}: change both together", show::size(value), show::size(max));
            return Err(Violation::invalid(&at(key), text));
        }
    }
    Ok(())
}

/// What is saved up is saved from a quota, and the kernel takes no more than one period's (sched_cfs_bandwidth in kernel/sched/core.c).
pub(super) fn check_burst(limits: &Limits) -> Result<(), Violation> {
    let Some(burst) = limits.get(&LimitKey::CpuBurst).and_then(|l| l.value.count()).filter(|burst| *burst > 0) else { return Ok(()) };
    let quota = match limits.get(&LimitKey::Cpus).map(|l| &l.value) {
        Some(LimitValue::Decimal(cpus)) => (cpus * PERIOD_US).round(),
        _ => return Err(Violation::invalid(&at(LimitKey::CpuBurst), "there is nothing to save up without a limit cpus; set cpus, too")),
    };
    if burst as f64 > quota {
        let most = show::limit(LimitKey::CpuBurst, &LimitValue::Count(quota as u64));
        return Err(Violation::invalid(&at(LimitKey::CpuBurst), format!("it is more than cpus gives in a period of 100ms, {most}")));
    }
    Ok(())
}
