//! Why a worker may what it may, and what of a policy a host enforces.

use rbee_hive_api::{PolicyJudgement, WorkerExplanation};

use super::part;
use super::policy::{origins, score_line, score_points};
use crate::cli::output::{Align, clean, shorten, table};

const LIMITS: [(&str, Align); 3] = [("limit", Align::Left), ("value", Align::Right), ("from", Align::Left)];
const GAPS: [(&str, Align); 2] = [("setting", Align::Left), ("why not", Align::Left)];
const JUDGED: [(&str, Align); 4] = [("setting", Align::Left), ("value", Align::Left), ("here", Align::Left), ("why", Align::Left)];
/// Widest value of a judged setting.
const VALUE_WIDTH: usize = 48;

/// Grants, limits, what is not in force, score.
pub(crate) fn explanation(worker: &WorkerExplanation) -> String {
    let limits = worker.limits.iter().map(|limit| {
        let from = match (limit.origin.as_str(), &limit.from) {
            ("policy", Some(place)) => clean(place),
            (origin, _) => clean(&origin.replace('_', " ")),
        };
        vec![clean(&limit.limit), clean(&limit.value.to_string()), from]
    });
    let gaps = worker.not_in_force.iter().map(|gap| vec![clean(&gap.setting), clean(&gap.why)]);
    let source = worker.source.as_deref().map(|source| format!(" ({source})")).unwrap_or_default();
    let mut text = format!("{}\n", clean(&format!("{} under policy {}{source}", worker.worker_id, worker.policy)));
    text += &match &worker.settings {
        Some(settings) => part("Policy", &origins(settings)),
        None => "\nThe policy has changed since the start, and what it said then was not kept.\n".to_owned(),
    };
    text += &part("Limits", &table(&LIMITS, limits.collect(), 0));
    text += &part("Not in force", &table(&GAPS, gaps.collect(), 0));
    let incidents: String = worker.incidents.iter().map(|i| format!("  {}\n", clean(&format!("{} {}", i.time, i.text)))).collect();
    text += &part("Devices", &incidents);
    if let Some(exposure) = &worker.exposure {
        text += &part("Exposure", &score_points(exposure));
        text += &format!("\n{}", score_line(&worker.worker_id, exposure));
    }
    text
}

/// Every setting with what becomes of it here, and whether a worker would be started. `by` is who judged.
pub(crate) fn judgement(policy: &PolicyJudgement, by: &str) -> String {
    let mut last = "";
    let rows = policy.settings.iter().map(|s| {
        let name = if std::mem::replace(&mut last, &s.setting) == s.setting { String::new() } else { clean(&s.setting) };
        let state = match (s.state.as_str(), s.refuses) {
            (_, true) => "refused".to_owned(),
            (state, false) => clean(&state.replace('_', " ")),
        };
        vec![name, shorten(&s.value, VALUE_WIDTH), state, s.why.as_deref().map_or_else(String::new, clean)]
    });
    let user = if policy.judged_as.uid == 0 { "root".to_owned() } else { format!("uid {}", policy.judged_as.uid) };
    let gaps = policy.settings.iter().filter(|s| s.state != "enforced").count();
    let verdict = match (&policy.refusal, gaps) {
        (Some(why), _) => format!("a worker would be refused: {}", clean(why)),
        (None, 0) => "a worker would be started, with all of it in force".to_owned(),
        (None, gaps) => format!("a worker would be started, with {gaps} of its settings not or not all in force"),
    };
    format!(
        "policy {} ({}), judged as {user} by {by}\n\n{}\n{verdict}\n{}",
        clean(&policy.name),
        clean(&policy.source),
        table(&JUDGED, rows.collect(), 0),
        score_line(&format!("{} here", policy.name), &policy.exposure)
    )
}
