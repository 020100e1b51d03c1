//! A worker's processes.

use rbee_hive_api::Process;

use crate::cli::output::{Align, bytes, clean, cpu_time, shorten, table};

const COLUMNS: [(&str, Align); 7] = [
    ("pid", Align::Right),
    ("ppid", Align::Right),
    ("state", Align::Left),
    ("threads", Align::Right),
    ("rss", Align::Right),
    ("cpu", Align::Right),
    ("command", Align::Left),
];
/// Widest command line shown.
const COMMAND_WIDTH: usize = 72;

/// As a table, indented.
pub(super) fn processes(processes: &[Process]) -> String {
    let rows = processes.iter().map(|p| {
        // A zombie and a kernel thread have no command line: their name in brackets, as in ps(1).
        let command = if p.cmdline.is_empty() { format!("[{}]", p.name) } else { p.cmdline.join(" ") };
        vec![
            p.pid.to_string(),
            p.ppid.to_string(),
            clean(&p.state),
            p.threads.to_string(),
            bytes(p.rss_bytes),
            cpu_time(p.cpu_usage_usec),
            shorten(&command, COMMAND_WIDTH),
        ]
    });
    table(&COLUMNS, rows.collect(), 2)
}
