//! What happens to workers is told, once and in order.

use std::sync::Arc;

use serde_json::{Value, json};

use super::hive::{Hive, id};
use crate::{EventKind, Feed, Filter};

/// All that was told of a worker: kind, and state or kind of verdict.
async fn told(hive: &Hive, name: &str) -> Vec<(EventKind, Value)> {
    let filter = Filter { worker_id: Some(name.into()), kind: None };
    let mut feed = Feed::new(Arc::clone(hive.spawner.events().unwrap()), Some(0), filter);
    let mut told = vec![];
    while feed.is_behind() {
        // Leases are told by their own tests.
        for event in feed.next().await.iter().filter(|event| event.kind != EventKind::Lease) {
            let field = if event.kind == EventKind::Verdict { "kind" } else { "state" };
            told.push((event.kind, event.data[field].clone()));
        }
    }
    told
}

fn states(of: &[&str]) -> Vec<(EventKind, Value)> {
    of.iter().map(|state| (EventKind::State, json!(state))).collect()
}

#[tokio::test]
async fn every_state_of_a_life_is_told_once_and_what_is_waited_for_is_told_before() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "unix").await.unwrap();
    // First without a process, then with one.
    assert_eq!(told(&hive, "w").await, states(&["starting", "starting", "ready"]));
    hive.spawner.freeze(&id("w")).await.unwrap();
    hive.spawner.thaw(&id("w")).await.unwrap();
    hive.stop("w", 0).await;
    hive.spawner.stop(&id("w"), None).await.unwrap();
    let mut all = states(&["starting", "starting", "ready", "frozen", "ready", "stopping"]);
    all.push((EventKind::Verdict, json!("stopped")));
    all.extend(states(&["stopped"]));
    assert_eq!(told(&hive, "w").await, all);
}

#[tokio::test]
async fn what_is_refused_is_not_told_and_what_fails_is_told_with_its_verdict() {
    let hive = Hive::start();
    hive.spawn("no", "refused", "unix").await.unwrap_err();
    assert_eq!(told(&hive, "no").await, []);
    for (act, starts) in [("launcher-setup-fails", 0), ("setup-fails", 1)] {
        hive.spawn(act, act, "unix").await.unwrap_err();
        let mut all = states(&["starting"][..starts]);
        all.push((EventKind::Verdict, json!("setup_failed")));
        all.extend(states(&["failed"]));
        assert_eq!(told(&hive, act).await, all, "{act}");
    }
}
