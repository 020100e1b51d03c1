//! The hive itself.

use rbee_hive_api::{HiveInfo, HiveTls, HiveTokens};

use super::{pairs, part};
use crate::cli::output::clean;

/// Identity, workers, and what is wrong with it and its cgroups.
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
        ("tokens", info.access.tokens.as_ref().map(tokens)),
        ("tls", info.access.tls.as_ref().map(tls)),
        ("not enforceable", (!lacking.is_empty()).then(|| format!("{}; see `rbee-hive doctor`", lacking.join(", ")))),
    ]);
    let notes: String = info.notes.iter().chain(&info.cgroup.notes).map(|note| format!("  {}\n", clean(note))).collect();
    format!("rbee-hive\n{text}{}", part("Notes", &notes))
}

fn tokens(tokens: &HiveTokens) -> String {
    let expired = if tokens.expired > 0 { format!(", {} expired", tokens.expired) } else { String::new() };
    format!("{}{expired}{}", tokens.valid, problem(tokens.problem.as_deref()))
}

fn tls(tls: &HiveTls) -> String {
    format!("{}{}", if tls.names.is_empty() { "no DNS name".into() } else { tls.names.join(", ") }, problem(tls.problem.as_deref()))
}

fn problem(problem: Option<&str>) -> String {
    problem.map(|why| format!(" (not as the file says: {})", clean(why))).unwrap_or_default()
}
