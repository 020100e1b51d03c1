//! Limits of a worker that runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use rbee_hive_policy::{LimitKey, LimitValue};
use rbee_hive_sandbox::protocol::BelowUse;
use serde_json::json;

use super::hive::{Hive, id};
use crate::{ErrorKind, EventKind, LimitOrigin, WorkerView};

async fn update(hive: &Hive, key: LimitKey, value: u64) -> Result<WorkerView, crate::LifecycleError> {
    hive.spawner.update(&id("w"), BTreeMap::from([(key, LimitValue::Count(value))]), BelowUse::Refuse).await
}

#[tokio::test]
async fn new_limits_are_shown_explained_and_told() {
    let hive = Hive::start();
    let before = hive.spawn("w", "serve", "limited").await.unwrap();
    let after = update(&hive, LimitKey::PidsMax, 7).await.unwrap();
    assert_eq!(after.limits[&LimitKey::PidsMax], LimitValue::Count(7));
    assert!(after.generation > before.generation);
    let explained = hive.spawner.explain(&id("w")).await.unwrap();
    let origin = explained.limits.iter().find(|l| l.limit == LimitKey::PidsMax).map(|l| l.origin);
    assert_eq!(origin, Some(LimitOrigin::Update));
    let events = hive.spawner.events().unwrap().after(0).await;
    let told = events.iter().find(|event| event.kind == EventKind::Limits).unwrap();
    assert_eq!((told.worker_id.as_deref(), &told.data["changed"]), (Some("w"), &json!(["pids_max"])));
    assert_eq!(told.generation, Some(after.generation));
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_refused_update_changes_nothing_that_is_shown() {
    let hive = Hive::start();
    assert_eq!(update(&hive, LimitKey::PidsMax, 7).await.unwrap_err().kind, ErrorKind::NotFound);
    let before = hive.spawn("w", "serve", "limited").await.unwrap();
    assert_eq!(update(&hive, LimitKey::PidsMax, 1).await.unwrap_err().kind, ErrorKind::NotAllowedNow);
    let after = hive.spawner.status(&id("w")).await.unwrap();
    assert_eq!(after.limits, before.limits);
    let told = hive.spawner.events().map(|hub| hub.last()).unwrap_or_default();
    let events = if told == 0 { vec![] } else { hive.spawner.events().unwrap().after(0).await };
    assert!(!events.iter().any(|event| event.kind == EventKind::Limits), "{events:?}");
    hive.stop("w", 0).await;
    assert_eq!(update(&hive, LimitKey::PidsMax, 7).await.unwrap_err().kind, ErrorKind::NotAllowedNow, "nothing runs");
}

#[tokio::test]
async fn updates_of_one_worker_come_one_after_the_other() {
    let hive = Arc::new(Hive::start());
    hive.spawn("w", "serve", "limited").await.unwrap();
    let asked = (10..30).map(|n| {
        let hive = Arc::clone(&hive);
        tokio::spawn(async move { update(&hive, LimitKey::PidsMax, n).await.unwrap() })
    });
    let generations: std::collections::BTreeSet<u64> =
        futures_util::future::join_all(asked).await.into_iter().map(|v| v.unwrap().generation).collect();
    assert!(!generations.is_empty());
    let events = hive.spawner.events().unwrap().after(0).await;
    let last = events.iter().rfind(|event| event.kind == EventKind::Limits).unwrap().data["limits"]["pids_max"].clone();
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().limits[&LimitKey::PidsMax].count(), last.as_u64());
    hive.stop("w", 0).await;
}
