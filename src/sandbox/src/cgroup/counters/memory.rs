//! Memory: use, peak, kinds, swap, faults, and how often it was short.

use super::{Home, Read, count, is_limit, keyed, number};
use crate::protocol::{MemoryEvents, MemoryKinds, PageFaults, Resources};

const V1: Home = Home::V1("memory");

pub(super) fn collect(read: &mut Read<'_>, to: &mut Resources) {
    // One version for all of them: a v2 leaf of a host that counts memory on v1 has none of these files.
    match read(V1, "memory.usage_in_bytes").and_then(|text| count(&text)) {
        Some(current) => {
            to.memory_current = Some(current);
            v1(read, to);
        }
        None => v2(read, to),
    }
}

fn v1(read: &mut Read<'_>, to: &mut Resources) {
    to.memory_peak = number(read, (V1, "memory.max_usage_in_bytes"));
    // `total_`: with the groups that the worker has made below its own.
    let stat = read(V1, "memory.stat").unwrap_or_default();
    // There only where swap is counted at all.
    to.swap_current = keyed(&stat, "total_swap");
    to.memory_by_kind = MemoryKinds {
        anon: keyed(&stat, "total_rss"),
        file: keyed(&stat, "total_cache"),
        mapped: keyed(&stat, "total_mapped_file"),
        shmem: keyed(&stat, "total_shmem"),
        kernel: number(read, (V1, "memory.kmem.usage_in_bytes")),
        sock: sock_v1(read),
        ..MemoryKinds::default()
    };
    to.page_faults = faults(&stat, "total_pgfault", "total_pgmajfault");
    to.oom_kills = read(V1, "memory.oom_control").and_then(|text| keyed(&text, "oom_kill"));
    let max = max_v1(read, &stat);
    to.memory_events = MemoryEvents { max, oom_kill: to.oom_kills, ..MemoryEvents::default() };
}

/// What v2 calls "max": charges that would have gone over the limit.
///
/// Memory and swap together are charged before memory alone (try_charge_memcg in mm/memcontrol.c): where both have one limit it is the first
/// that fails, and that is counted up to Linux 6.15 only. `None` where it may have happened without being counted.
fn max_v1(read: &mut Read<'_>, stat: &str) -> Option<u64> {
    if one_limit_v1(stat) {
        number(read, (V1, "memory.memsw.failcnt")).filter(|times| *times > 0)
    } else {
        number(read, (V1, "memory.failcnt"))
    }
}

/// Whether memory with swap has the limit that memory alone has.
fn one_limit_v1(stat: &str) -> bool {
    let limit = |key| keyed(stat, key).filter(|bytes| is_limit(*bytes));
    limit("hierarchical_memory_limit").is_some_and(|memory| limit("hierarchical_memsw_limit") == Some(memory))
}

/// What lies in TCP's and UDP's buffers. It is counted from when it is limited (memcg->tcpmem_active): until then it stays 0.
fn sock_v1(read: &mut Read<'_>) -> Option<u64> {
    let limited = number(read, (V1, "memory.kmem.tcp.limit_in_bytes")).is_some_and(is_limit);
    if limited { number(read, (V1, "memory.kmem.tcp.usage_in_bytes")) } else { None }
}

fn v2(read: &mut Read<'_>, to: &mut Resources) {
    let mut figure = |file| number(read, (Home::V2, file));
    to.memory_current = figure("memory.current");
    to.memory_peak = figure("memory.peak");
    to.swap_current = figure("memory.swap.current");
    to.swap_peak = figure("memory.swap.peak");
    let stat = read(Home::V2, "memory.stat").unwrap_or_default();
    to.memory_by_kind = MemoryKinds {
        anon: keyed(&stat, "anon"),
        file: keyed(&stat, "file"),
        mapped: keyed(&stat, "file_mapped"),
        shmem: keyed(&stat, "shmem"),
        kernel: keyed(&stat, "kernel"),
        slab: keyed(&stat, "slab"),
        kernel_stack: keyed(&stat, "kernel_stack"),
        page_tables: keyed(&stat, "pagetables"),
        sock: keyed(&stat, "sock"),
    };
    to.page_faults = faults(&stat, "pgfault", "pgmajfault");
    let events = read(Home::V2, "memory.events").unwrap_or_default();
    to.memory_events = MemoryEvents {
        low: keyed(&events, "low"),
        high: keyed(&events, "high"),
        max: keyed(&events, "max"),
        oom: keyed(&events, "oom"),
        oom_kill: keyed(&events, "oom_kill"),
        oom_group_kill: keyed(&events, "oom_group_kill"),
    };
    to.oom_kills = to.memory_events.oom_kill;
}

/// The kernel's first figure has the major ones in it.
fn faults(stat: &str, all: &str, major: &str) -> PageFaults {
    let major = keyed(stat, major);
    PageFaults { minor: keyed(stat, all).zip(major).map(|(all, major)| all.saturating_sub(major)), major }
}
