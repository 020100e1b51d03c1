//! Which limits this tree can enforce, and writing them to a leaf, each read back.
//!
//! Through cgroups-rs' setters on v1 (never its `apply`, which swallows errors), by files on v2. Must never know: policies.

use std::collections::BTreeMap;
use std::path::Path;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use rbee_hive_policy::{Enforce, LimitKey, LimitValue, Limits, NotInForce};

use super::detect::Version;
use super::error::CgroupError;
use super::files::{CGROUP_LIMITS, CORE, files, holder, home};
use super::interface::{expect, write_checked};
use super::tree::Tree;
use super::{named, protection, values};

/// Limit of the init's own leaf, bytes.
const INIT_MEMORY: u64 = 64 << 20;
/// What may lie in a worker's TCP and UDP sockets on v1, bytes: 256 connections at full speed take a fraction of it.
const SOCKET_MEMORY: u64 = 64 << 20;
/// Tasks of the init's own leaf.
const INIT_PIDS: u64 = 32;
/// Tasks of hive and launcher together: a thread for each CPU, 512 that may block, and a helper for each GPU; workers have groups of their own.
/// They are spared when the host runs out of memory, and so is what one that was taken over forks.
const HIVE_PIDS: u64 = 4096;

/// See [`Tree::unenforceable`].
pub(super) fn unenforceable(tree: &Tree) -> BTreeMap<LimitKey, String> {
    CGROUP_LIMITS.into_iter().filter_map(|key| Some((key, why_not(tree, key)?))).collect()
}

pub(super) fn why_not(tree: &Tree, key: LimitKey) -> Option<String> {
    let files = files(key)?;
    if tree.layout.hierarchies.is_empty() {
        return Some(format!("no cgroup can be written here ({})", tree.layout.notes.join("; ")));
    }
    // The files of an existing child show what the kernel was built with.
    let Some((version, dir)) = home(tree, &files, &format!("{}/hive", tree.root)) else {
        return Some(match files.v2_controller {
            CORE => format!("cgroup v1 has no {}", files.v2.join(" or ")),
            controller => format!("the {controller} controller is not available to this hive's cgroups"),
        });
    };
    let names = files.names(version);
    if names.is_empty() {
        return Some(format!("cgroup v1 has no {}", files.v2.join(" or ")));
    }
    let there = match key {
        LimitKey::Hugetlb => !named::page_sizes(&dir).is_empty(),
        _ => !files.in_dir(version, &dir).is_empty() || (key == LimitKey::SwapMax && !tree.host_swaps),
    };
    match (there, key) {
        (false, _) => Some(format!("this kernel has no {}", names.join(" or "))),
        (true, LimitKey::IoWeight) if !tree.host_weighs_io => {
            Some("no disk of this host weighs its users: none had the scheduler bfq or io.cost.qos when the hive started".to_owned())
        }
        (true, LimitKey::MemoryLow) => protection::why_not(tree),
        (true, _) => None,
    }
}

/// Writes `limits` to the leaf `path` and gives those that are not in force and need not be.
///
/// Errors: a required limit that this tree cannot enforce, a value that no file takes, a failed write, a read-back that differs.
pub(super) fn write(tree: &Tree, path: &str, limits: &Limits) -> Result<Vec<NotInForce>, CgroupError> {
    let missing = unenforceable(tree);
    let mut notes = Vec::new();
    // In key order: memory_max comes before swap_max, as v1 demands.
    for (key, limit) in limits.iter().filter(|(key, _)| files(**key).is_some()) {
        let refused =
            missing.get(key).cloned().or_else(|| alone(tree, *key, limits)).or_else(|| unprotected(tree, path, (*key, &limit.value)));
        match (refused, limit.enforce) {
            (None, _) => write_one(tree, path, (*key, &limit.value), limits)?,
            (Some(why), Enforce::IfAvailable) => notes.push(NotInForce { setting: name(*key), why }),
            (Some(why), Enforce::Required) => return Err(CgroupError::Limit { setting: name(*key), why }),
        }
    }
    notes.extend(bound_sockets(tree, path)?);
    Ok(notes)
}

/// On v1 `memory.limit_in_bytes` does not count what lies in TCP and UDP sockets: a worker could fill the whole machine's share (net.ipv4.tcp_mem)
/// with connections to itself. They have a limit of their own there; v2 counts them in.
fn bound_sockets(tree: &Tree, path: &str) -> Result<Option<NotInForce>, CgroupError> {
    const FILE: &str = "memory.kmem.tcp.limit_in_bytes";
    let Some((Version::V1, dir)) = files(LimitKey::MemoryMax).and_then(|files| home(tree, &files, path)) else { return Ok(None) };
    if !dir.join(FILE).exists() {
        let why = format!("this kernel has no {FILE}: what lies in the worker's sockets is not counted");
        return Ok(Some(NotInForce { setting: "socket_memory".to_owned(), why }));
    }
    let bytes = i64::try_from(SOCKET_MEMORY).unwrap_or(i64::MAX);
    let setter = Setter { version: Version::V1, dir: &dir };
    let controller = MemController::new(dir.clone(), dir.clone(), false);
    setter.v1_bytes(FILE, Some(SOCKET_MEMORY), |_| controller.set_tcp_limit(bytes)).map(|()| None)
}

/// v1 counts memory and swap together: without a memory limit there is nothing to add the swap to.
pub(super) fn alone(tree: &Tree, key: LimitKey, limits: &Limits) -> Option<String> {
    let swap = limits.get(&LimitKey::SwapMax)?;
    let bounded = limits.get(&LimitKey::MemoryMax).is_some_and(|l| !l.value.is_max());
    let counted_together = key == LimitKey::SwapMax && tree.host_swaps && tree.v1("memory").is_some();
    (counted_together && !bounded && !swap.value.is_max())
        .then(|| "cgroup v1 limits memory and swap together, and memory_max is not set".to_owned())
}

/// Protection that the groups above ours don't have for it.
pub(super) fn unprotected(tree: &Tree, leaf: &str, (key, value): (LimitKey, &LimitValue)) -> Option<String> {
    let bytes = value.count().filter(|_| key == LimitKey::MemoryLow)?;
    protection::too_much(tree, leaf, bytes)
}

/// The fixed limits of the init's leaf, as far as there are controllers for them.
pub(super) fn write_init(tree: &Tree, path: &str) -> Result<(), CgroupError> {
    for (key, value) in [(LimitKey::MemoryMax, INIT_MEMORY), (LimitKey::PidsMax, INIT_PIDS)] {
        if why_not(tree, key).is_none() {
            write_one(tree, path, (key, &LimitValue::Count(value)), &Limits::new())?;
        }
    }
    Ok(())
}

/// The fixed limit of the group of hive and launcher, where there is a controller for it.
pub(super) fn write_hive(tree: &Tree) -> Result<(), CgroupError> {
    if why_not(tree, LimitKey::PidsMax).is_some() {
        return Ok(());
    }
    write_one(tree, &format!("{}/hive", tree.root), (LimitKey::PidsMax, &LimitValue::Count(HIVE_PIDS)), &Limits::new())
}

/// Writes one limit to the leaf `path`, or to the group that holds it for the leaf; `all`: what else is planned.
pub(super) fn write_one(tree: &Tree, path: &str, (key, value): (LimitKey, &LimitValue), all: &Limits) -> Result<(), CgroupError> {
    let Some(files) = files(key) else { return Ok(()) };
    let Some((version, dir)) = home(tree, &files, holder(key, path)) else { return Ok(()) };
    let bad = |why: &str| CgroupError::Limit { setting: name(key), why: format!("{value:?} {why}") };
    let setter = Setter { version, dir: &dir };
    let number = || values::count_or_max(value).ok_or_else(|| bad("is neither a whole number nor \"max\""));
    match key {
        LimitKey::MemoryMax => setter.memory(number()?),
        LimitKey::SwapMax => setter.swap(number()?, all.get(&LimitKey::MemoryMax).and_then(|l| l.value.count())),
        LimitKey::MemoryHigh => setter.bytes("memory.high", number()?),
        LimitKey::MemoryLow => protection::put(tree, path, value.count().ok_or_else(|| bad("is no number of bytes"))?),
        LimitKey::OomGroup => match number()? {
            Some(n @ (0 | 1)) => setter.exact("memory.oom.group", &n.to_string()),
            _ => Err(bad("is neither 0 nor 1")),
        },
        LimitKey::Cpus => setter.bandwidth(values::bandwidth(value).ok_or_else(|| bad("is not a number of CPUs"))?),
        LimitKey::CpuBurst => setter.burst(number()?.unwrap_or(0)),
        LimitKey::IoWeight => match number()? {
            Some(n @ 1..=10_000) => files.in_dir(version, &dir).into_iter().try_for_each(|file| setter.io_weight(file, n)),
            _ => Err(bad("is not between 1 and 10000")),
        },
        LimitKey::IoMax | LimitKey::Hugetlb | LimitKey::Dmem => named::put(key, version, (&dir, value)),
        LimitKey::CgroupDescendants => setter.count("cgroup.max.descendants", number()?),
        LimitKey::CgroupDepth => setter.count("cgroup.max.depth", number()?),
        LimitKey::CpuWeight => match number()? {
            Some(n @ 1..=10_000) => setter.weight(n),
            _ => Err(bad("is not between 1 and 10000")),
        },
        LimitKey::Cpuset | LimitKey::Mems => match value {
            // "max": what the parent has, which the leaf has already.
            v if v.is_max() => Ok(()),
            LimitValue::Text(list) if values::list(list).is_some_and(|l| !l.is_empty()) => setter.list(key, list),
            _ => Err(bad("is not a list such as \"0-3,8\"")),
        },
        LimitKey::PidsMax => setter.pids(number()?),
        _ => Ok(()),
    }
}

/// Writes one leaf directory's files.
struct Setter<'a> {
    version: Version,
    dir: &'a Path,
}

impl Setter<'_> {
    fn memory(&self, bytes: Option<u64>) -> Result<(), CgroupError> {
        if self.version == Version::V2 {
            return self.bytes("memory.max", bytes);
        }
        let controller = MemController::new(self.dir.to_owned(), self.dir.to_owned(), false);
        self.v1_bytes("memory.limit_in_bytes", bytes, |n| controller.set_limit(n))
    }

    fn swap(&self, swap: Option<u64>, memory: Option<u64>) -> Result<(), CgroupError> {
        let file = if self.version == Version::V2 { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        if !self.dir.join(file).exists() {
            // Let through by `why_not` only where the host has no swap at all: then there is nothing to limit.
            return Ok(());
        }
        if self.version == Version::V2 {
            return self.bytes(file, swap);
        }
        let Some(both) = swap.map(|s| memory.map(|m| m.saturating_add(s))) else {
            return self.memsw(file, None);
        };
        // No swap on the host and no memory limit: in force by itself.
        both.map_or(Ok(()), |sum| self.memsw(file, Some(sum)))
    }

    fn memsw(&self, file: &str, bytes: Option<u64>) -> Result<(), CgroupError> {
        let controller = MemController::new(self.dir.to_owned(), self.dir.to_owned(), false);
        self.v1_bytes(file, bytes, |n| controller.set_memswap_limit(n))
    }

    fn v1_bytes(
        &self,
        file: &str,
        bytes: Option<u64>,
        set: impl FnOnce(i64) -> cgroups_rs::fs::error::Result<()>,
    ) -> Result<(), CgroupError> {
        // Beyond i64 is beyond any memory: no limit.
        let value = bytes.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1);
        set(value).map_err(self.failed(file, value))?;
        let wanted = u64::try_from(value).ok();
        expect(&self.dir.join(file), &value.to_string(), |got| values::same_bytes(wanted, got, page()))
    }

    fn bytes(&self, file: &str, bytes: Option<u64>) -> Result<(), CgroupError> {
        let text = bytes.map_or_else(|| "max".to_owned(), |n| n.to_string());
        write_checked(&self.dir.join(file), &text, |got| values::same_bytes(bytes, got, page()))
    }

    fn exact(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        write_checked(&self.dir.join(file), value, |got| got.trim() == value)
    }

    fn bandwidth(&self, cpus: values::Bandwidth) -> Result<(), CgroupError> {
        if self.version == Version::V2 {
            let quota = cpus.quota.map_or_else(|| "max".to_owned(), |q| q.to_string());
            return self.exact("cpu.max", &format!("{quota} {}", cpus.period));
        }
        let controller = CpuController::new(self.dir.to_owned(), self.dir.to_owned(), false);
        let quota = cpus.quota.and_then(|q| i64::try_from(q).ok()).unwrap_or(-1);
        controller.set_cfs_period(cpus.period).map_err(self.failed("cpu.cfs_period_us", cpus.period))?;
        controller.set_cfs_quota(quota).map_err(self.failed("cpu.cfs_quota_us", quota))?;
        self.expect_exact("cpu.cfs_period_us", &cpus.period.to_string())?;
        self.expect_exact("cpu.cfs_quota_us", &quota.to_string())
    }

    fn burst(&self, micros: u64) -> Result<(), CgroupError> {
        let file = if self.version == Version::V2 { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
        self.exact(file, &micros.to_string())
    }

    fn io_weight(&self, file: &str, weight: u64) -> Result<(), CgroupError> {
        let weight = values::io_weight(file, weight);
        write_checked(&self.dir.join(file), &weight.to_string(), |got| values::shown_weight(got) == Some(weight))
    }

    fn count(&self, file: &str, most: Option<u64>) -> Result<(), CgroupError> {
        self.exact(file, &most.map_or_else(|| "max".to_owned(), |n| n.to_string()))
    }

    fn weight(&self, weight: u64) -> Result<(), CgroupError> {
        if self.version == Version::V2 {
            return self.exact("cpu.weight", &weight.to_string());
        }
        let shares = values::shares(weight);
        let controller = CpuController::new(self.dir.to_owned(), self.dir.to_owned(), false);
        controller.set_shares(shares).map_err(self.failed("cpu.shares", shares))?;
        self.expect_exact("cpu.shares", &shares.to_string())
    }

    fn list(&self, key: LimitKey, list: &str) -> Result<(), CgroupError> {
        let file = if key == LimitKey::Cpuset { "cpuset.cpus" } else { "cpuset.mems" };
        if self.version == Version::V2 {
            write_checked(&self.dir.join(file), list, |got| values::same_list(list, got))?;
            // v2 takes what the parent lacks and falls back to the parent's: only the effective list tells.
            return expect(&self.dir.join(format!("{file}.effective")), list, |got| values::same_list(list, got));
        }
        let controller = CpuSetController::new(self.dir.to_owned(), self.dir.to_owned(), false);
        let done = if key == LimitKey::Cpuset { controller.set_cpus(list) } else { controller.set_mems(list) };
        done.map_err(self.failed(file, list))?;
        expect(&self.dir.join(file), list, |got| values::same_list(list, got))
    }

    fn pids(&self, most: Option<u64>) -> Result<(), CgroupError> {
        let text = most.map_or_else(|| "max".to_owned(), |n| n.to_string());
        if self.version == Version::V2 {
            return self.exact("pids.max", &text);
        }
        let value = most.and_then(|n| i64::try_from(n).ok()).map_or(MaxValue::Max, MaxValue::Value);
        let controller = PidController::new(self.dir.to_owned(), self.dir.to_owned(), false);
        controller.set_pid_max(value).map_err(self.failed("pids.max", &text))?;
        self.expect_exact("pids.max", &text)
    }

    fn expect_exact(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        expect(&self.dir.join(file), value, |got| got.trim() == value)
    }

    fn failed<V: ToString>(&self, file: &str, value: V) -> impl FnOnce(cgroups_rs::fs::error::Error) -> CgroupError + use<'_, V> {
        let (path, value) = (self.dir.join(file), value.to_string());
        move |source| CgroupError::Set { path, value, source }
    }
}

/// Page size, bytes.
pub(super) fn page() -> u64 {
    procfs::page_size().max(1)
}

/// The limit's name in policies.
fn name(key: LimitKey) -> String {
    key.name().to_owned()
}
