//! What is told of a start afterwards.

use rbee_hive_policy::{LimitKey, LimitValue};

use super::hive::{Hive, eventually, id, params};
use crate::{ErrorKind, Explanation, LimitOrigin, SpawnParams};

async fn explained(hive: &Hive, policy: &str) -> Explanation {
    let limits = [(LimitKey::MemoryMax, LimitValue::Count(1 << 20))].into();
    hive.spawn_with(SpawnParams { limits, ..params("w", "serve", policy) }).await.unwrap();
    hive.spawner.explain(&id("w")).await.unwrap()
}

#[tokio::test]
async fn a_limit_is_the_requests_the_policys_or_a_default() {
    let hive = Hive::start();
    let explained = explained(&hive, "limited").await;
    let limit = |key: LimitKey| explained.limits.iter().find(|l| l.limit == key).cloned().unwrap();
    assert_eq!((limit(LimitKey::MemoryMax).origin, limit(LimitKey::MemoryMax).from), (LimitOrigin::Request, None));
    assert_eq!((limit(LimitKey::Cpus).origin, limit(LimitKey::Cpus).from.as_deref()), (LimitOrigin::Policy, Some("limited.toml:10")));
    assert_eq!((limit(LimitKey::PidsMax).origin, limit(LimitKey::PidsMax).from.as_deref()), (LimitOrigin::Policy, Some("default")));
    let settings = explained.settings.unwrap();
    assert!(settings.iter().any(|s| s.setting == "network.mode" && s.value == "none" && s.from == "limited.toml:5"), "{settings:#?}");
    let score = explained.exposure.unwrap();
    assert!(
        score.points.iter().any(|p| p.setting == "landlock.enforce" && p.not_in_force.is_some()),
        "this launcher's kernel has no Landlock"
    );
    assert_eq!(hive.spawner.explain(&id("absent")).await.unwrap_err().kind, ErrorKind::NotFound);
    hive.stop("w", 0).await;
    hive.spawner.delete(&id("w")).await.unwrap();
    assert_eq!(hive.spawner.explain(&id("w")).await.unwrap().limits, explained.limits, "the last ones are still known");
}

#[tokio::test]
async fn a_policy_that_has_changed_since_is_not_passed_off_as_the_one_of_the_start() {
    let hive = Hive::start();
    let explained = explained(&hive, "moves").await;
    assert_eq!((&explained.settings, &explained.source, &explained.exposure), (&None, &None, &None));
    assert!(explained.limits.iter().any(|l| l.limit == LimitKey::Cpus && l.origin == LimitOrigin::Unknown), "{:?}", explained.limits);
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn what_was_kept_outlives_the_launcher() {
    let hive = Hive::start();
    let before = explained(&hive, "limited").await;
    assert!(hive.spawner.policy_explain("limited").await.unwrap().exposure.score < before.exposure.as_ref().unwrap().score);
    assert_eq!(hive.spawner.policy_explain("nope").await.unwrap_err().kind, ErrorKind::UnknownPolicy);
    let _ = hive.spawner.policy_show("launcher-dies").await;
    eventually("the launcher lives", || hive.launcher.is_gone()).await;
    assert_eq!(hive.spawner.explain(&id("w")).await.unwrap().settings, before.settings);
    hive.stop("w", 0).await;
}
