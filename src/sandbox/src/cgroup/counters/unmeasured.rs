//! Why a figure is `None`, for each that is.
//!
//! Told from the figures themselves and from where the hierarchies are mounted, so that it holds for a worker that has ended, too. Must never
//! know how a figure is read.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::protocol::{CgroupFacts, CgroupMode, Resources};

/// A figure that was not measured, or a whole group of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmeasured {
    /// Its name in `resources`; a dot leads into a group: `memory_by_kind.slab`, or `pressure` for all of that group.
    pub figure: String,
    /// One clause for a person.
    pub why: String,
}

const NO_CGROUPS: &str = "this hive has no cgroups (mode none)";
const NO_LEAF: &str = "the worker's cgroup was not read: it is not made yet, or it went without its init's last word";
const UNREADABLE: &str = "its file in the cgroup could not be read";
pub(super) const NOT_ENABLED: &str = "the controller is not enabled in this hive's part of the cgroup v2 tree";

/// Why each figure that is `None` in `resources` is so; `facts` are those of the hive that has read them.
pub fn unmeasured(resources: &Resources, facts: &CgroupFacts) -> Vec<Unmeasured> {
    let Ok(Value::Object(members)) = serde_json::to_value(resources) else { return Vec::new() };
    let empty = *resources == Resources::default();
    let reason = |figure: &str| match facts.mode {
        CgroupMode::None => NO_CGROUPS,
        _ if empty => NO_LEAF,
        _ => why(figure, &Known { resources, facts }),
    };
    let mut told = Vec::new();
    for (name, member) in members {
        let mut found = Found::default();
        found.look(&member, name.clone());
        let reasons: Vec<&str> = found.nulls.iter().map(|figure| reason(figure)).collect();
        // One entry for a group in which nothing was measured, for one reason.
        let one = !found.any_measured && reasons.windows(2).all(|pair| pair[0] == pair[1]);
        let figures = if one { vec![name] } else { found.nulls };
        told.extend(figures.into_iter().zip(reasons).map(|(figure, why)| Unmeasured { figure, why: why.into() }));
    }
    told
}

/// The figures of one member.
#[derive(Default)]
struct Found {
    nulls: Vec<String>,
    any_measured: bool,
}

impl Found {
    fn look(&mut self, value: &Value, path: String) {
        match value {
            Value::Null => self.nulls.push(path),
            Value::Object(members) => members.iter().for_each(|(name, member)| self.look(member, format!("{path}.{name}"))),
            _ => self.any_measured = true,
        }
    }
}

/// What a reason is found from.
struct Known<'a> {
    resources: &'a Resources,
    facts: &'a CgroupFacts,
}

impl Known<'_> {
    /// Whether this controller has a v1 hierarchy, which then counts and not the v2 tree.
    fn v1(&self, controller: &str) -> bool {
        self.facts.mounts.contains_key(controller)
    }

    fn controller(&self, name: &str) -> &'static str {
        if self.v1(name) { UNREADABLE } else { NOT_ENABLED }
    }
}

fn why(figure: &str, known: &Known<'_>) -> &'static str {
    let family = figure.split(['.', '_']).next().unwrap_or(figure);
    match family {
        "memory" | "swap" | "page" | "oom" if known.resources.memory_current.is_none() => known.controller("memory"),
        "memory" | "swap" | "page" | "oom" if known.v1("memory") => memory_v1(figure),
        "memory" | "swap" | "page" | "oom" => memory_v2(figure),
        "cpu" if figure.starts_with("cpu_throttled") => known.controller("cpu"),
        "cpu" if known.resources.cpu_usage_usec.is_some() && known.v1("cpuacct") => {
            "cgroup v1 looks at each tick of the clock who runs where, and has not met the worker yet"
        }
        "io" => super::io::why(figure, known.facts),
        "pids" if known.resources.pids_current.is_none() => known.controller("pids"),
        "pids" => "Linux before 6.1 keeps no peak of tasks (pids.peak)",
        "pressure" => pressure(figure, known),
        _ => UNREADABLE,
    }
}

fn memory_v1(figure: &str) -> &'static str {
    match figure {
        "swap_current" => "this kernel does not count swap by cgroup (swapaccount=0)",
        "swap_peak" => "cgroup v1 keeps no peak of swap alone",
        "memory_by_kind.slab" | "memory_by_kind.kernel_stack" | "memory_by_kind.page_tables" => {
            "cgroup v1 counts the kernel's memory as one sum"
        }
        "memory_by_kind.sock" => "cgroup v1 counts network buffers only where they are limited",
        "memory_events.low" => "cgroup v1 has no memory.low",
        "memory_events.high" => "cgroup v1 has no memory.high",
        "memory_events.max" => {
            "with swap_max 0 the one limit of memory and swap is reached first, and since 6.16 Linux does not count that: 0 would be no proof"
        }
        "memory_events.oom" => "cgroup v1 counts the kills only",
        "memory_events.oom_group_kill" => "cgroup v1 has no memory.oom.group",
        "oom_kills" | "memory_events.oom_kill" => "Linux before 4.13 does not count them",
        _ => UNREADABLE,
    }
}

fn memory_v2(figure: &str) -> &'static str {
    match figure {
        "memory_peak" => "Linux before 5.19 keeps no peak (memory.peak)",
        "swap_current" => "this kernel does not count swap by cgroup",
        "swap_peak" => "Linux before 6.5 keeps no peak of swap (memory.swap.peak)",
        "memory_by_kind.kernel" => "Linux before 5.18 gives no sum of the kernel's memory",
        "memory_by_kind.page_tables" => "Linux before 5.11 does not count page tables by cgroup",
        "memory_events.oom_group_kill" => "Linux before 5.17 does not count them",
        _ => UNREADABLE,
    }
}

fn pressure(figure: &str, known: &Known<'_>) -> &'static str {
    match figure {
        "pressure.cpu.full" if known.resources.pressure.cpu.some.is_some() => "Linux before 5.13 does not measure it for CPUs",
        _ if known.facts.mounts.contains_key("unified") => {
            "this kernel measures no pressure (PSI is not built in, or off: psi=1 turns it on)"
        }
        _ => "only the cgroup v2 tree has it, and none is mounted here",
    }
}
