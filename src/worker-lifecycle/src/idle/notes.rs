//! What of a policy's `[idle]` this host has no means for. Reads names in cgroup directories, and nothing else.

use std::path::Path;

use rbee_hive_policy::{IdleAction, IdlePlan, NotInForce};
use rbee_hive_sandbox::protocol::CgroupFacts;

/// What is not in force for a worker in `leaf`.
pub(crate) fn notes(plan: IdlePlan, facts: &CgroupFacts, leaf: Option<&str>) -> Vec<NotInForce> {
    let note = |setting: &str, why: &str| vec![NotInForce { setting: setting.into(), why: why.into() }];
    if plan.after_ms.is_none() {
        return vec![];
    }
    let Some(leaf) = leaf else {
        return note("idle.after", "without a cgroup nobody counts the worker's CPU time: it is never idle");
    };
    let has = |hierarchy: &str, file: &str| {
        facts.mounts.get(hierarchy).is_some_and(|mount| Path::new(mount).join(leaf.trim_start_matches('/')).join(file).exists())
    };
    match plan.action {
        IdleAction::Freeze if !has("unified", "cgroup.freeze") && !has("freezer", "freezer.state") => {
            note("idle.action", "this host has no freezer: cgroup v2 of Linux 5.2, or the v1 controller")
        }
        IdleAction::Reclaim if !has("unified", "memory.reclaim") => note(
            "idle.action",
            "memory.reclaim needs cgroup v2 of Linux 5.19 with the memory controller: what v1 has for it can't be bounded",
        ),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use rbee_hive_sandbox::protocol::CgroupMode;

    use super::*;

    #[test]
    fn what_the_host_cannot_do_is_told_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let leaf = dir.path().join("u/w");
        std::fs::create_dir_all(&leaf).unwrap();
        let mounts = [("unified".to_owned(), dir.path().join("u").display().to_string())].into();
        let facts = CgroupFacts { mode: CgroupMode::Unified, root: "/".into(), mounts, notes: vec![] };
        let plan = |action| IdlePlan { after_ms: Some(1000), action, max_warm: None };
        let settings = |action, leaf| notes(plan(action), &facts, leaf).into_iter().map(|n| n.setting).collect::<Vec<_>>();
        for (action, file) in [(IdleAction::Freeze, "cgroup.freeze"), (IdleAction::Reclaim, "memory.reclaim")] {
            assert_eq!(settings(action, Some("/w")), ["idle.action"]);
            std::fs::write(leaf.join(file), "").unwrap();
            assert_eq!(settings(action, Some("/w")), [""; 0]);
            assert_eq!(settings(action, None), ["idle.after"]);
        }
        assert_eq!(settings(IdleAction::Stop, Some("/w")), [""; 0]);
        assert_eq!(notes(IdlePlan::default(), &facts, None), []);
    }
}
