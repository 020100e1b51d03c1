//! The hive itself.

use rbee_hive_api::HiveInfo;

use super::{pairs, part};
use crate::cli::output::clean;

/// Identity, workers, and what is wrong with its cgroups.
pub(crate) fn hive(info: &HiveInfo) -> String {
    let root = info.cgroup.root.as_deref().unwrap_or("none");
    let lacking: Vec<&str> = info.host.iter().filter(|(_, feature)| !feature.supported).map(|(name, _)| name.as_str()).collect();
    let text = pairs(&[
        ("id", info.id.clone()),
        ("version", Some(info.version.clone())),
        ("pid", Some(info.pid.to_string())),
        ("cgroup", Some(format!("{root} ({})", info.cgroup.mode))),
        ("workers", Some(info.workers.to_string())),
        ("draining", info.draining.then(|| "yes: new workers are refused".to_owned())),
        ("not enforceable", (!lacking.is_empty()).then(|| format!("{}; see `rbee-hive doctor`", lacking.join(", ")))),
    ]);
    let notes: String = info.cgroup.notes.iter().map(|note| format!("  {}\n", clean(note))).collect();
    format!("rbee-hive\n{text}{}", part("Notes", &notes))
}
