//! Policies by name.

use rbee_hive_api::PolicyInfo;

use super::or_dash;
use crate::cli::output::{Align, clean, table};

const COLUMNS: [(&str, Align); 3] = [("name", Align::Left), ("source", Align::Left), ("description", Align::Left)];

/// As a table; a policy that can't be used says why in the place of its description.
pub(crate) fn policies(policies: &[PolicyInfo]) -> String {
    let rows = policies.iter().map(|p| {
        let what = p.error.as_ref().map_or_else(|| or_dash(Some(&p.description)), |e| clean(&format!("INVALID: {e}")));
        vec![clean(&p.name), or_dash(Some(&p.source)), what]
    });
    if policies.is_empty() { "no policies\n".into() } else { table(&COLUMNS, rows.collect(), 0) }
}
