//! Limits with head-room over what was used, and never above the base's own.

use super::{Observations, WatchPlan, Watched};
use crate::{Enforce, LimitKey, LimitValue, PlannedLimit};

const MIB: u64 = 1 << 20;
/// What the first run on a fresh machine may use beyond a half more: its libraries come from the disk and are charged to it.
const MEMORY_ROOM: u64 = 32 * MIB;
const TASKS_ROOM: u64 = 8;
const LEAST_DESCRIPTORS: u64 = 64;

/// A limit, and why it is what it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposed {
    pub(super) key: LimitKey,
    pub(super) limit: PlannedLimit,
    pub(super) reason: String,
}

/// Every limit of the base, and those that were measured.
pub(super) fn proposed(watched: &Watched<'_>, watch: &WatchPlan) -> Vec<Proposed> {
    let measured = measured(watched.seen, watched.memory_peak);
    let mut list = Vec::new();
    for key in LimitKey::ALL {
        let base = watch.base.limits.get(&key);
        let found = measured.iter().find(|(k, _, _)| *k == key);
        let enforce = base.map_or(Enforce::Required, |b| b.enforce);
        let (value, reason) = match (found, base) {
            (Some((_, value, reason)), base) if base.is_none_or(|b| LimitValue::Count(*value).within(&b.value)) => {
                (LimitValue::Count(*value), reason.clone())
            }
            (Some((_, _, reason)), Some(base)) => (base.value.clone(), format!("{reason}; the base allows no more")),
            (None, Some(base)) => (base.value.clone(), "the base's own".into()),
            (_, None) => continue,
        };
        list.push(Proposed { key, limit: PlannedLimit { value, enforce }, reason });
    }
    list
}

fn measured(seen: &Observations, memory_peak: Option<u64>) -> Vec<(LimitKey, u64, String)> {
    let mut list = Vec::new();
    if let Some(peak) = memory_peak {
        let wanted = peak.saturating_add((peak / 2).max(MEMORY_ROOM)).min(i64::MAX as u64 - MIB);
        list.push((LimitKey::MemoryMax, wanted.div_ceil(MIB) * MIB, format!("{} MiB were used while learning", peak.div_ceil(MIB))));
    }
    if let Some(tasks) = seen.tasks.map(|t| t.min(1 << 22)) {
        list.push((LimitKey::PidsMax, (tasks * 2).max(tasks + TASKS_ROOM), format!("{tasks} tasks at a time while learning")));
    }
    if let Some(table) = seen.descriptors.map(|d| d.clamp(LEAST_DESCRIPTORS, 1 << 30)) {
        list.push((LimitKey::OpenFiles, table * 2, format!("a table of {table} descriptors was enough while learning")));
    }
    list
}
