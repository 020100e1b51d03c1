//! Policies setting by setting: resolved, explained, scored, checked.

use rbee_hive_api::{Exposure, PolicyCheck, PolicyExplanation, PolicySetting};

use crate::cli::output::{Align, clean, shorten, table};

/// Widest value shown beside its place.
const VALUE_WIDTH: usize = 72;
const SETTINGS: [(&str, Align); 2] = [("setting", Align::Left), ("value", Align::Left)];
const ORIGINS: [(&str, Align); 3] = [("setting", Align::Left), ("value", Align::Left), ("from", Align::Left)];
const POINTS: [(&str, Align); 6] = [
    ("setting", Align::Left),
    ("value", Align::Left),
    ("weight", Align::Right),
    ("adds", Align::Right),
    ("saves", Align::Right),
    ("what would lower it", Align::Left),
];

/// Every setting with its value, and the score. The filter's entries are the profile's matter: `explain` has them.
pub(crate) fn resolved(policy: &PolicyExplanation) -> String {
    let own = policy.settings.iter().filter(|s| s.setting != "seccomp.allow" && s.setting != "seccomp.refuse");
    let mut last = "";
    let rows = own.map(|s| vec![unless_again(&mut last, &s.setting), clean(&s.value)]);
    format!("{}\n{}", table(&SETTINGS, rows.collect(), 0), score_line(&policy.name, &policy.exposure))
}

/// Every setting with its place.
pub(crate) fn origins(settings: &[PolicySetting]) -> String {
    let mut last = "";
    let rows = settings.iter().map(|s| vec![unless_again(&mut last, &s.setting), shorten(&s.value, VALUE_WIDTH), clean(&s.from)]);
    table(&ORIGINS, rows.collect(), 0)
}

/// A list's key stands at its first entry alone.
fn unless_again<'s>(last: &mut &'s str, name: &'s str) -> String {
    if std::mem::replace(last, name) == name { String::new() } else { clean(name) }
}

/// The points, what adds most first.
pub(crate) fn score_points(exposure: &Exposure) -> String {
    let mut points: Vec<_> = exposure.points.iter().collect();
    points.sort_by(|a, b| b.adds.total_cmp(&a.adds));
    let rows = points.into_iter().map(|point| {
        let lower = point.not_in_force.as_ref().map(|why| format!("not in force: {why}")).or_else(|| point.remedy.clone());
        vec![
            clean(&point.setting),
            shorten(&point.value, VALUE_WIDTH),
            point.weight.to_string(),
            format!("{:.2}", point.adds),
            format!("{:.2}", point.saves),
            lower.map_or_else(|| "-".to_owned(), |text| clean(&text)),
        ]
    });
    table(&POINTS, rows.collect(), 0)
}

/// The score in one line.
pub(crate) fn score_line(name: &str, exposure: &Exposure) -> String {
    format!("exposure of {}: {:.1} ({}), where 0.0 is tight and 10.0 open\n", clean(name), exposure.score, clean(&exposure.rating))
}

/// Findings as a compiler has them, then the verdict.
pub(crate) fn findings(file: &str, check: &PolicyCheck) -> String {
    let each = check.findings.iter().map(|finding| {
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}\n", clean(&format!("{}{line}: {}: {}: {}", finding.file, finding.key, finding.level, finding.message)))
    });
    let mut text: String = each.collect();
    if check.valid {
        text.push_str(&format!("{} is a valid policy\n", clean(file)));
    }
    text
}
