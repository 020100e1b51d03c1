//! Lists of workers, and one in a sentence.

use jiff::Timestamp;
use rbee_hive_api::Worker;

use super::{number, or_dash};
use crate::cli::output::{Align, bytes, clean, shorten, since, table};

const COLUMNS: [(&str, Align); 9] = [
    ("id", Align::Left),
    ("state", Align::Left),
    ("model", Align::Left),
    ("policy", Align::Left),
    ("devices", Align::Left),
    ("pid", Align::Right),
    ("memory", Align::Right),
    ("age", Align::Right),
    ("endpoint", Align::Left),
];
/// Widest model shown.
const MODEL_WIDTH: usize = 40;

/// All workers, as of `now`.
pub(crate) fn workers(workers: &[Worker], now: Timestamp) -> String {
    if workers.is_empty() {
        return "no workers\n".into();
    }
    table(&COLUMNS, workers.iter().map(|w| row(w, now)).collect(), 0)
}

fn row(worker: &Worker, now: Timestamp) -> Vec<String> {
    let memory = worker.resources.memory_current.filter(|_| !worker.has_ended()).map(bytes);
    vec![
        clean(&worker.worker_id),
        clean(&worker.state),
        shorten(&worker.model, MODEL_WIDTH),
        clean(&worker.policy),
        or_dash(Some(&worker.devices.join(","))),
        number(worker.pid),
        or_dash(memory.as_deref()),
        or_dash(since(&worker.created_at, now).as_deref()),
        or_dash(worker.endpoint.as_deref()),
    ]
}

/// `w1 is ready at http://127.0.0.1:9100 (pid 4242 on CPU-0)`.
pub(crate) fn started(worker: &Worker) -> String {
    let place = worker.endpoint.as_ref().map(|e| format!(" at {e}")).unwrap_or_default();
    let pid = worker.pid.map(|pid| format!(" (pid {pid} on {})", or_dash(Some(&worker.devices.join(","))))).unwrap_or_default();
    format!("{}\n", clean(&format!("{} is {}{place}{pid}", worker.worker_id, worker.state)))
}

/// `w1 stopped: stopped on request`.
pub(crate) fn ended(worker: &Worker) -> String {
    let why = worker.verdict.as_ref().map(|v| format!(": {}", v.message)).unwrap_or_default();
    format!("{}\n", clean(&format!("{} {}{why}", worker.worker_id, worker.state)))
}
