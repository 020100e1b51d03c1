//! Limits against one another, and against what a request may ask for.

use super::Findings;
use crate::explain::show;
use crate::file::MaySet;
use crate::oom::OnOom;
use crate::units::NumberList;
use crate::{Enforce, LimitKey, LimitValue};

pub(super) fn look(findings: &mut Findings<'_>) {
    memory(findings);
    swap(findings);
    on_oom(findings);
    cpus(findings);
    tmpfs(findings);
    for (key, _) in findings.policy().limits.iter().filter(|(_, limit)| limit.value.is_max()) {
        let text = match key {
            LimitKey::PidsMax => "takes the limit away that a policy without the key has; give a value, or remove it",
            _ => "is no limit, which is what a policy without the key has; remove it or give a value",
        };
        findings.warning(&at(*key), text);
    }
    requests(findings);
}

fn at(key: LimitKey) -> String {
    format!("limits.{}", key.name())
}

fn count(findings: &Findings<'_>, key: LimitKey) -> Option<u64> {
    findings.policy().limits.get(&key).and_then(|limit| limit.value.count())
}

fn memory(findings: &mut Findings<'_>) {
    let Some(max) = count(findings, LimitKey::MemoryMax) else { return };
    for (key, what) in [(LimitKey::MemoryHigh, "no worker is ever slowed down"), (LimitKey::MemoryLow, "no worker ever has as much")] {
        let Some(value) = count(findings, key).filter(|value| *value >= max) else { continue };
        let text = format!("{} is not below memory_max, {}: {what}; lower it", show::size(value), show::size(max));
        match value > max {
            true => findings.error(&at(key), text),
            false => findings.warning(&at(key), text),
        }
    }
    if findings.policy().limits.get(&LimitKey::MemoryMax).is_some_and(|l| l.enforce == Enforce::IfAvailable) {
        findings.note(
            &at(LimitKey::MemoryMax),
            "a host that can't enforce it starts the worker without a memory limit; say required to have it refused",
        );
    }
}

fn swap(findings: &mut Findings<'_>) {
    let limits = &findings.policy().limits;
    let bounded = limits.get(&LimitKey::MemoryMax).is_some_and(|limit| !limit.value.is_max());
    if bounded {
        return;
    }
    if limits.get(&LimitKey::SwapMax).is_some_and(|limit| !limit.value.is_max()) {
        findings
            .warning(&at(LimitKey::SwapMax), "without memory_max it bounds little, and cgroup v1 can't enforce it; set memory_max, too");
    }
    if findings.is_written("worker.on_oom") {
        findings.warning("worker.on_oom", "without memory_max no worker runs out of memory by itself; set memory_max, too");
    } else if limits.get(&LimitKey::OomGroup).is_some_and(|limit| limit.value == LimitValue::Count(1)) {
        findings.warning(&at(LimitKey::OomGroup), "without memory_max no worker runs out of memory by itself; set memory_max, too");
    }
}

/// The kernel's own word on groups wins over what the init would do.
fn on_oom(findings: &mut Findings<'_>) {
    let group = count(findings, LimitKey::OomGroup);
    match (findings.policy().worker.on_oom, group) {
        (OnOom::Kill, Some(0)) => {
            findings.error("worker.on_oom", "\"kill\" and oom_group = false contradict each other; remove one of them")
        }
        (OnOom::Stop, Some(1)) => {
            findings.error("worker.on_oom", "nothing is left to stop where oom_group has the kernel kill all of it; remove one of them");
        }
        _ => {}
    }
}

fn cpus(findings: &mut Findings<'_>) {
    let limits = &findings.policy().limits;
    let Some(LimitValue::Decimal(time)) = limits.get(&LimitKey::Cpus).map(|limit| &limit.value) else { return };
    let Some(LimitValue::Text(list)) = limits.get(&LimitKey::Cpuset).map(|limit| &limit.value) else { return };
    let Ok(set) = list.parse::<NumberList>() else { return };
    let number = set.0.len() as f64;
    if *time >= number {
        findings.warning(
            &at(LimitKey::Cpus),
            format!("{time} CPUs of time are never reached: cpuset {list} has {number}; remove one of the two"),
        );
    }
}

/// What is written there counts as the worker's memory.
fn tmpfs(findings: &mut Findings<'_>) {
    let Some(max) = count(findings, LimitKey::MemoryMax) else { return };
    let files = &findings.policy().filesystem;
    for (key, bytes) in [("filesystem.tmp_size", files.tmp_size), ("filesystem.shm_size", files.shm_size)] {
        if bytes > max && findings.is_written(key) {
            let text = format!(
                "{} can't be filled: it counts as memory, of which there is {}; lower it or raise memory_max",
                show::size(bytes),
                show::size(max)
            );
            findings.warning(key, text);
        }
    }
}

fn requests(findings: &mut Findings<'_>) {
    let request = &findings.policy().request;
    let may = request.may_set.contains(&MaySet::Limits);
    if may && request.max.is_empty() {
        findings.note("request.may_set", "limits can only be lowered by a request: there is no [request.max] to go up to");
    }
    if !may && !request.max.is_empty() {
        findings.warning("request.max", "may_set does not list \"limits\", so nobody can ask for them; list it, or remove max");
        return;
    }
    for (key, max) in &request.max {
        let path = format!("request.max.{}", key.name());
        if max.is_max() {
            findings.warning(&path, "lets a request take the limit away; give a value");
            continue;
        }
        let Some(own) = findings.policy().limits.get(key).map(|limit| &limit.value) else { continue };
        let (most, value) = (show::limit(*key, max), show::limit(*key, own));
        if own == max {
            findings.warning(&path, format!("{most} is the policy's own value, and nothing can be raised; raise it or remove it"));
        } else if !own.within(max) {
            findings.error(
                &path,
                format!("{most} is less than the policy's own {value}, and is never looked at; raise it or lower limits.{}", key.name()),
            );
        }
    }
}
