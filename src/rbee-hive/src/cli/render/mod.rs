//! Answers as people read them: from wire types to text, without side effects.
//!
//! Owns columns and wording. Must never know where the text goes. Whatever a hive or worker said is cleaned here.

mod devices;
mod event;
mod explanation;
mod history;
mod hive;
mod leases;
mod matrix;
mod policies;
mod policy;
mod processes;
mod status;
mod verified;
mod workers;

pub(super) use devices::topology;
pub(super) use event::event;
pub(super) use explanation::{explanation, judgement};
pub(super) use history::{PLOT_WIDTH, history};
pub(super) use hive::hive;
pub(super) use leases::leases;
pub(super) use policies::policies;
pub(super) use policy::{findings, origins, resolved, score_line, score_points};
pub(super) use status::{limits, status};
pub(super) use verified::verified;
pub(super) use workers::{ended, started, workers};

use super::output::clean;

/// A dash where there is nothing.
fn or_dash(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).map_or_else(|| "-".to_owned(), clean)
}

/// A number, or a dash.
fn number<T: ToString>(number: Option<T>) -> String {
    number.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

/// Lines of names and values under one another, indented; what has no value is left out.
fn pairs(entries: &[(&str, Option<String>)]) -> String {
    let width = entries.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = entries.iter().filter_map(|(name, value)| value.as_ref().map(|v| format!("  {name:width$}  {}\n", clean(v))));
    lines.collect()
}

/// A headed part, or nothing where it is empty.
fn part(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("\n{title}\n{body}") }
}
