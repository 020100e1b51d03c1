//! What a look at a worker's sandbox has found.

use rbee_hive_api::Worker;

use super::part;
use crate::cli::output::clean;

/// One line where all is as planned, else a line for each difference; then what could not be looked at.
pub(crate) fn verified(worker: &Worker) -> String {
    let line = |text: &str| format!("  {}\n", clean(text));
    let unseen: String = worker.verified.iter().flat_map(|v| &v.unseen).map(|u| line(u)).collect();
    let mut text = match worker.drift.as_slice() {
        [] => format!("{} is as planned\n", clean(&worker.worker_id)),
        drift => {
            let lines: String = drift.iter().map(|d| line(&d.as_str().map_or_else(|| d.to_string(), str::to_owned))).collect();
            format!("{} is not as planned\n{lines}", clean(&worker.worker_id))
        }
    };
    text += &part("Not looked at", &unseen);
    text
}
