//! CPUs and GPUs.

use rbee_hive_api::Device;

use super::{number, or_dash};
use crate::cli::output::{Align, bytes, table};

const COLUMNS: [(&str, Align); 7] = [
    ("id", Align::Left),
    ("name", Align::Left),
    ("memory", Align::Right),
    ("cpus", Align::Left),
    ("numa", Align::Right),
    ("lease", Align::Left),
    ("uuid", Align::Left),
];

/// As a table.
pub(crate) fn devices(devices: &[Device]) -> String {
    let rows = devices.iter().map(|d| {
        vec![
            or_dash(Some(&d.id)),
            or_dash(d.name.as_deref().or(d.vendor.as_deref())),
            or_dash(d.memory_bytes.map(bytes).as_deref()),
            or_dash(d.cpus.as_deref()),
            number(d.numa_node),
            or_dash(d.lease.as_deref()),
            or_dash(d.uuid.as_deref()),
        ]
    });
    if devices.is_empty() { "no devices\n".into() } else { table(&COLUMNS, rows.collect(), 0) }
}
