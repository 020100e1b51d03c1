//! Leases.

use rbee_hive_api::Lease;
use serde_json::Value;

use super::or_dash;
use crate::cli::output::{Align, bytes, table};

const COLUMNS: [(&str, Align); 7] = [
    ("lease", Align::Left),
    ("holder", Align::Left),
    ("devices", Align::Left),
    ("share", Align::Left),
    ("state", Align::Left),
    ("used by", Align::Left),
    ("until", Align::Left),
];

/// As a table.
pub(crate) fn leases(leases: &[Lease]) -> String {
    let rows = leases.iter().map(|l| {
        let until = match (&l.expires_at, l.bound_to_connection) {
            (Some(at), _) => Some(at.clone()),
            (None, true) => Some("its connection ends".to_owned()),
            (None, false) => None,
        };
        vec![
            or_dash(Some(&l.lease_id)),
            or_dash(Some(&l.holder)),
            or_dash(Some(&l.devices.join(","))),
            or_dash(l.share.as_ref().map(share).as_deref()),
            or_dash(Some(&l.state)),
            or_dash(l.used_by.as_deref()),
            or_dash(until.as_deref()),
        ]
    });
    if leases.is_empty() { "no leases\n".into() } else { table(&COLUMNS, rows.collect(), 0) }
}

fn share(share: &Value) -> String {
    match (share["ways"].as_u64(), share["memory"].as_u64()) {
        (Some(ways), _) => format!("1 of {ways}"),
        (_, Some(memory)) => bytes(memory),
        _ => share.as_str().unwrap_or("?").to_owned(),
    }
}
