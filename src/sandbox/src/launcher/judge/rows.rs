//! Each setting with what was found out about it. Pure.

use rbee_hive_policy::explain::{Setting, settings};
use rbee_hive_policy::exposure::{Extent, Gap};
use rbee_hive_policy::{Enforce, LandlockMode, LimitKey, Policy};

use super::Trial;
use crate::cgroup::MEMORY_PRESSURE;
use crate::protocol::{InForce, JudgedSetting};

/// Every setting in the policy's order, then what else is missing.
pub(super) fn rows(policy: &Policy, gaps: &[Gap], trial: &Trial) -> Vec<JudgedSetting> {
    // The profile is one setting here: its entries are in force together or not at all. A description is for people.
    let judged = |s: &Setting| (!s.setting.starts_with("seccomp.") || s.setting == "seccomp.profile") && s.setting != "description";
    let own: Vec<Setting> = settings(policy).into_iter().filter(judged).collect();
    let mut rows: Vec<JudgedSetting> = own.iter().map(|setting| row(policy, setting, (gaps, trial))).collect();
    for gap in gaps.iter().filter(|gap| !own.iter().any(|s| gap.is_about(&s.setting))) {
        let state = if gap.extent == Extent::Part { InForce::Partly } else { InForce::NotInForce };
        rows.push(JudgedSetting { setting: gap.setting.clone(), value: String::new(), state, why: Some(gap.why.clone()), refuses: false });
    }
    for (setting, why) in trial.refusals.iter().filter(|(at, _)| !own.iter().any(|s| s.path == *at)) {
        let why = Some(why.clone());
        rows.push(JudgedSetting { setting: setting.clone(), value: String::new(), state: InForce::NotInForce, why, refuses: true });
    }
    rows
}

fn row(policy: &Policy, setting: &Setting, (gaps, trial): (&[Gap], &Trial)) -> JudgedSetting {
    let about = |list: &[(String, String)]| list.iter().find(|(at, _)| *at == setting.path).map(|(_, why)| why.clone());
    let missing: Vec<&Gap> = gaps.iter().filter(|gap| gap.is_about(&setting.setting)).collect();
    let (state, why, refuses) = match (about(&trial.refusals), missing.as_slice()) {
        (Some(why), _) => (InForce::NotInForce, Some(why), true),
        (None, []) => (InForce::Enforced, about(&trial.remarks), false),
        (None, missing) => {
            let partly = missing.iter().all(|gap| gap.extent == Extent::Part);
            let why = missing.iter().map(|gap| gap.why.as_str()).collect::<Vec<_>>().join("; ");
            let state = if partly { InForce::Partly } else { InForce::NotInForce };
            (state, Some(why), missing.iter().any(|gap| is_required(policy, gap)))
        }
    };
    JudgedSetting { setting: setting.setting.clone(), value: setting.value.clone(), state, why, refuses }
}

/// Whether the policy demands what is missing.
fn is_required(policy: &Policy, gap: &Gap) -> bool {
    match LimitKey::from_name(&gap.setting) {
        Ok(key) => policy.limits.get(&key).is_some_and(|limit| limit.enforce == Enforce::Required),
        Err(_) if gap.setting == MEMORY_PRESSURE => policy.pressure.enforce == Enforce::Required,
        Err(_) => gap.setting == "landlock" && policy.landlock.enforce == LandlockMode::Required,
    }
}

/// A refusal in one line.
pub(super) fn sentence(row: &JudgedSetting) -> String {
    format!("{}: {}", row.setting, row.why.as_deref().unwrap_or("can't be enforced here"))
}

#[cfg(test)]
mod tests {
    use rbee_hive_policy::embedded;

    use super::*;

    const TEXT: &str = "[worker]\nbinary = \"x\"\n[limits]\nmemory_high = \"1GiB\"\nswap_max = { value = \"0\", enforce = \"if_available\" }\n\
        [filesystem]\nread_only = [\"/usr\", \"/gone\"]\n[landlock]\nenforce = \"required\"\n";

    fn judged(setting: &str, gaps: &[Gap], trial: &Trial) -> Vec<JudgedSetting> {
        let policy = Policy::parse("t", "t.toml", TEXT, &|name| embedded::fragment(name).map(str::to_owned)).unwrap();
        rows(&policy, gaps, trial).into_iter().filter(|row| row.setting == setting).collect()
    }

    fn gap(setting: &str, extent: Extent) -> Gap {
        Gap { setting: setting.into(), why: "not here".into(), extent }
    }

    #[test]
    fn what_is_required_and_missing_refuses_and_a_wish_does_not() {
        let gaps = [gap("memory_high", Extent::Whole), gap("swap_max", Extent::Whole), gap("landlock", Extent::Part)];
        let of = |setting: &str| judged(setting, &gaps, &Trial::default()).remove(0);
        assert_eq!((of("limits.memory_high").state, of("limits.memory_high").refuses), (InForce::NotInForce, true));
        assert_eq!((of("limits.swap_max").state, of("limits.swap_max").refuses), (InForce::NotInForce, false));
        assert_eq!((of("landlock.enforce").state, of("landlock.enforce").refuses), (InForce::Partly, true));
        assert_eq!((of("limits.pids_max").state, of("limits.pids_max").why), (InForce::Enforced, None));
    }

    #[test]
    fn all_that_is_missing_of_one_setting_is_told() {
        let gaps = [gap("credentials.user", Extent::Part), gap("init_isolation", Extent::Part)];
        let row = judged("credentials.user", &gaps, &Trial::default()).remove(0);
        assert_eq!((row.state, row.why.as_deref()), (InForce::Partly, Some("not here; not here")));
    }

    #[test]
    fn one_entry_of_a_list_is_refused_and_not_its_neighbours() {
        let mut trial = Trial::default();
        trial.refuse("filesystem.read_only[1]", "gone");
        let rows = judged("filesystem.read_only", &[], &trial);
        assert_eq!(rows.iter().map(|r| (r.value.as_str(), r.refuses)).collect::<Vec<_>>(), [("/usr", false), ("/gone", true)]);
    }

    #[test]
    fn what_is_no_setting_of_the_policy_has_a_row_of_its_own() {
        let mut trial = Trial::default();
        trial.refuse("namespaces", "EPERM");
        let gaps = [gap("something_new", Extent::Whole)];
        assert_eq!(judged("something_new", &gaps, &trial)[0].state, InForce::NotInForce);
        assert!(judged("namespaces", &gaps, &trial)[0].refuses);
        assert_eq!(sentence(&judged("namespaces", &gaps, &trial)[0]), "namespaces: EPERM");
    }
}
