//! One worker in full.

use jiff::Timestamp;
use rbee_hive_api::{GpuMemory, LimitValue, Pressure, Process, Resources, Worker};

use super::processes::processes;
use super::{pairs, part};
use crate::cli::output::{Align, bytes, clean, cpu_time, share, since, table};

const LIMIT_COLUMNS: [(&str, Align); 3] = [("limit", Align::Left), ("allowed", Align::Right), ("in use", Align::Left)];
const UNMEASURED_COLUMNS: [(&str, Align); 2] = [("figure", Align::Left), ("why not", Align::Left)];
const GAP_COLUMNS: [(&str, Align); 2] = [("setting", Align::Left), ("why not", Align::Left)];

/// Identity, limits against use, what is not in force, processes, verdict; as of `now`.
pub(crate) fn status(worker: &Worker, list: &[Process], now: Timestamp) -> String {
    let age = since(&worker.created_at, now).map(|age| format!(", made {age} ago")).unwrap_or_default();
    let gaps = worker.not_in_force.iter().map(|n| vec![clean(&n.setting), clean(&n.why)]).collect();
    let unmeasured = worker.unmeasured.iter().map(|u| vec![clean(&u.figure), clean(&u.why)]).collect();
    let drift: String =
        worker.drift.iter().map(|d| format!("  {}\n", clean(&d.as_str().map_or_else(|| d.to_string(), str::to_owned)))).collect();
    let mut text = format!("{}\n", clean(&format!("{}: {}{age}", worker.worker_id, worker.state)));
    text += &pairs(&identity(worker));
    text += &part("Limits", &limits(worker));
    let mut used = usage(&worker.resources);
    used.extend(worker.gpu_memory.as_ref().map(|memory| ("gpu memory", gpu_memory(memory))));
    text += &part("Use", &pairs(&used));
    text += &part("Not measured", &table(&UNMEASURED_COLUMNS, unmeasured, 2));
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

/// Limits against use.
pub(crate) fn limits(worker: &Worker) -> String {
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
        LimitValue::Count(n) if name == "cpu_burst" => format!("{n} us"),
        LimitValue::Text(text) if text == "max" => "no limit".into(),
        other => clean(&other.to_string()),
    }
}

/// What of a limit is used; empty where nothing measures it.
fn in_use(name: &str, value: &LimitValue, resources: &Resources) -> String {
    let (used, unit): (_, fn(u64) -> String) = match name {
        "memory_max" | "memory_high" => (resources.memory_current, bytes),
        "swap_max" => (resources.swap_current, bytes),
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
    let (kinds, faults, throttled) = (&resources.memory_by_kind, &resources.page_faults, &resources.cpu_throttled);
    let count = |figure: Option<u64>| figure.map(|n| n.to_string());
    let memory = [("anonymous", kinds.anon), ("files", kinds.file), ("shared", kinds.shmem), ("kernel", kinds.kernel)];
    let time = [("user", resources.cpu_user_usec), ("system", resources.cpu_system_usec)];
    let limit = throttled.usec.zip(throttled.throttled_periods).zip(throttled.periods);
    vec![
        ("memory now", resources.memory_current.map(bytes)),
        ("memory peak", resources.memory_peak.map(bytes)),
        ("memory by kind", listed(&memory, bytes)),
        ("swap", resources.swap_current.map(bytes)),
        ("page faults", listed(&[("minor", faults.minor), ("major", faults.major)], |n| n.to_string())),
        ("out-of-memory kills", count(resources.oom_kills)),
        ("cpu time", resources.cpu_usage_usec.map(cpu_time)),
        ("cpu time by mode", listed(&time, cpu_time)),
        ("throttled", limit.map(|((usec, hit), periods)| format!("{} in {hit} of {periods} periods", cpu_time(usec)))),
        ("tasks", count(resources.pids_current)),
        ("most tasks", count(resources.pids_peak)),
        ("read", io(resources.io_read_bytes, resources.io_read_ops)),
        ("written", io(resources.io_write_bytes, resources.io_write_ops)),
        ("pressure", pressure(&resources.pressure)),
    ]
}

/// `anonymous 3 MiB, files 1 MiB`: what was measured of them.
fn listed(figures: &[(&str, Option<u64>)], unit: fn(u64) -> String) -> Option<String> {
    let told: Vec<String> = figures.iter().filter_map(|(name, figure)| Some(format!("{name} {}", unit((*figure)?)))).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn io(count: Option<u64>, operations: Option<u64>) -> Option<String> {
    let operations = operations.map(|n| format!(" in {n} operations")).unwrap_or_default();
    count.map(|n| format!("{}{operations}", bytes(n)))
}

/// The share of the last ten seconds in which some task waited.
fn pressure(pressure: &Pressure) -> Option<String> {
    let all = [("cpu", &pressure.cpu), ("memory", &pressure.memory), ("io", &pressure.io)];
    let told: Vec<String> = all.iter().filter_map(|(name, stalls)| Some(format!("{name} {:.1} %", stalls.some?.avg10))).collect();
    (!told.is_empty()).then(|| format!("{} of the last 10 s", told.join(", ")))
}
