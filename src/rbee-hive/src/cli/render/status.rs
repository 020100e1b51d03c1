//! One worker in full.

use jiff::Timestamp;
use rbee_hive_api::{GpuMemory, LimitValue, Process, Resources, Worker};

use super::processes::processes;
use super::{pairs, part};
use crate::cli::output::{Align, bytes, clean, cpu_time, share, since, table};

const LIMIT_COLUMNS: [(&str, Align); 3] = [("limit", Align::Left), ("allowed", Align::Right), ("in use", Align::Left)];
const GAP_COLUMNS: [(&str, Align); 2] = [("setting", Align::Left), ("why not", Align::Left)];

/// Identity, limits against use, what is not in force, processes, verdict; as of `now`.
pub(crate) fn status(worker: &Worker, list: &[Process], now: Timestamp) -> String {
    let age = since(&worker.created_at, now).map(|age| format!(", made {age} ago")).unwrap_or_default();
    let gaps = worker.not_in_force.iter().map(|n| vec![clean(&n.setting), clean(&n.why)]).collect();
    let drift: String =
        worker.drift.iter().map(|d| format!("  {}\n", clean(&d.as_str().map_or_else(|| d.to_string(), str::to_owned)))).collect();
    let mut text = format!("{}\n", clean(&format!("{}: {}{age}", worker.worker_id, worker.state)));
    text += &pairs(&identity(worker));
    text += &part("Limits", &limits(worker));
    let mut used = usage(&worker.resources);
    used.extend(worker.gpu_memory.as_ref().map(|memory| ("gpu memory", gpu_memory(memory))));
    text += &part("Use", &pairs(&used));
    text += &part("Not in force", &table(&GAP_COLUMNS, gaps, 2));
    text += &part("Drift", &drift);
    text += &part("Processes", &processes(list));
    if let Some(verdict) = &worker.verdict {
        text += &part("Verdict", &format!("  {}\n", clean(&format!("{} ({})", verdict.message, verdict.kind.name()))));
    }
    text
}

fn identity(worker: &Worker) -> Vec<(&'static str, Option<String>)> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let labels: Vec<String> = worker.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let pid = worker.pid.map(|pid| match worker.init_pid {
        Some(init) => format!("{pid} (init {init})"),
        None => pid.to_string(),
    });
    let path = worker.cgroup.path.as_deref().unwrap_or("none");
    vec![
        ("model", Some(worker.model.clone())),
        ("policy", Some(worker.policy.clone())),
        ("devices", some(worker.devices.join(", "))),
        ("endpoint", worker.endpoint.clone()),
        ("pid", pid),
        ("cgroup", Some(format!("{path} ({})", worker.cgroup.mode))),
        ("labels", some(labels.join(", "))),
        ("restarts", (worker.restarts > 0).then(|| worker.restarts.to_string())),
        ("created", Some(worker.created_at.clone())),
        ("started", worker.started_at.clone()),
        ("ready", worker.ready_at.clone()),
        ("ended", worker.ended_at.clone()),
    ]
}

fn limits(worker: &Worker) -> String {
    let rows = worker.limits.iter().map(|(name, value)| vec![clean(name), allowed(name, value), in_use(name, value, &worker.resources)]);
    table(&LIMIT_COLUMNS, rows.collect(), 2)
}

/// The limits that are in bytes; all others are counts, CPUs or lists.
fn is_bytes(name: &str) -> bool {
    name.starts_with("memory_") || name == "swap_max"
}

fn allowed(name: &str, value: &LimitValue) -> String {
    match value {
        LimitValue::Count(n) if is_bytes(name) => bytes(*n),
        LimitValue::Text(text) if text == "max" => "no limit".into(),
        other => clean(&other.to_string()),
    }
}

/// What of a limit is used; empty where nothing measures it.
fn in_use(name: &str, value: &LimitValue, resources: &Resources) -> String {
    let (used, unit): (_, fn(u64) -> String) = match name {
        "memory_max" | "memory_high" => (resources.memory_current, bytes),
        "pids_max" => (resources.pids_current, |n| n.to_string()),
        _ => (None, bytes),
    };
    let Some(used) = used else { return String::new() };
    let share = match value {
        LimitValue::Count(limit) => share(used, *limit),
        _ => None,
    };
    share.map_or_else(|| unit(used), |share| format!("{} ({share})", unit(used)))
}

/// Use, limit and what holds it; a use that nobody knows is not shown as none.
fn gpu_memory(memory: &GpuMemory) -> Option<String> {
    let used = memory.used_bytes.map_or_else(|| "not known".to_owned(), bytes);
    let held = match memory.enforced_by.as_deref() {
        Some("soft") => "watched".to_owned(),
        Some(by) => format!("held by {}", clean(by)),
        None => "held by nothing".to_owned(),
    };
    Some(memory.limit_bytes.map_or_else(|| used.clone(), |limit| format!("{used}, at most {} on each GPU ({held})", bytes(limit))))
}

fn usage(resources: &Resources) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("memory now", resources.memory_current.map(bytes)),
        ("memory peak", resources.memory_peak.map(bytes)),
        ("cpu time", resources.cpu_usage_usec.map(cpu_time)),
        ("tasks", resources.pids_current.map(|n| n.to_string())),
        ("out-of-memory kills", resources.oom_kills.map(|n| n.to_string())),
        ("read", resources.io_read_bytes.map(bytes)),
        ("written", resources.io_write_bytes.map(bytes)),
    ]
}
