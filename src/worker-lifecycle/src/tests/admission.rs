//! Many at a time: names, ports, drains.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use super::forks;
use super::hive::{Hive, eventually, id, params};
use crate::{ErrorKind, SpawnParams, WorkerFilter, WorkerState};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_spawns_of_one_name_exactly_one_starts() {
    let hive = Hive::start();
    let outcomes = join_all((0..50).map(|_| {
        let spawner = Arc::clone(&hive.spawner);
        tokio::spawn(async move { spawner.spawn(params("w", "serve", "bare")).await })
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().map(|o| o.unwrap()).partition(|o| o.is_ok());
    assert_eq!((won.len(), lost.len()), (1, 49));
    for error in lost.into_iter().map(|o| o.unwrap_err()) {
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::AlreadyExists, "Worker 'w' already exists"));
    }
    assert_eq!(hive.seen.spawns.load(Ordering::SeqCst), 1, "the launcher is asked once");
    hive.stop("w", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_spawns_share_a_hundred_ports_one_each() {
    let hive = Hive::with(100, "");
    let outcomes = join_all((0..200).map(|n| {
        let spawner = Arc::clone(&hive.spawner);
        tokio::spawn(async move { spawner.spawn(params(&format!("w{n}"), "idle", "held")).await })
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().map(|o| o.unwrap()).partition(|o| o.is_ok());
    let ports: BTreeSet<u16> = won.into_iter().map(|o| o.unwrap().port.unwrap()).collect();
    assert_eq!((ports.len(), lost.len()), (100, 100));
    assert!(lost.into_iter().all(|o| o.unwrap_err().kind == ErrorKind::NoFreePort));
    assert_eq!(hive.spawner.registry().len(), 100, "what is refused is not listed");
    // One that ends makes room for one.
    let first = hive.spawner.list(&WorkerFilter::default()).await.remove(0);
    let no_fork = forks::none().await;
    hive.stop(&first.worker_id, 0).await;
    assert_eq!(hive.spawner.find_available_port().ok().map(|p| p.port()), first.port);
    drop(no_fork);
    hive.spawner.shutdown().await;
    hive.until_no_init_is_left().await;
}

#[tokio::test]
async fn a_draining_hive_starts_nothing_and_keeps_what_it_has() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "unix").await.unwrap();
    hive.spawner.drain();
    assert!(hive.spawner.draining());
    assert_eq!(hive.spawn("x", "serve", "unix").await.unwrap_err().kind, ErrorKind::Draining);
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().state, WorkerState::Ready);
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_request_that_is_too_long_for_the_launcher_is_the_callers_fault() {
    let hive = Hive::start();
    let long = SpawnParams { args: vec!["x".repeat(200 * 1024)], ..params("w", "serve", "bare") };
    let error = hive.spawn_with(long).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidParams, "{error}");
    assert!(hive.spawner.registry().is_empty() && !hive.launcher.is_gone());
}

#[tokio::test]
async fn a_worker_that_is_refused_after_all_is_not_found_by_who_waits_for_it() {
    let hive = Hive::start();
    hive.seen.close_gate();
    let spawner = Arc::clone(&hive.spawner);
    let spawning = tokio::spawn(async move { spawner.spawn(params("w", "refused", "bare")).await });
    eventually("the launcher is not asked", || hive.seen.spawns.load(Ordering::SeqCst) == 1).await;
    let (a, b) = (Arc::clone(&hive.spawner), Arc::clone(&hive.spawner));
    let waiting = tokio::spawn(async move { a.wait(&id("w"), crate::WaitFor::Ready, None).await });
    let stopping = tokio::spawn(async move { b.stop(&id("w"), Some(0)).await });
    tokio::task::yield_now().await;
    hive.seen.open_gate();
    assert_eq!(spawning.await.unwrap().unwrap_err().kind, ErrorKind::ModelNotFound);
    for outcome in [waiting.await.unwrap(), stopping.await.unwrap()] {
        assert_eq!(outcome.unwrap_err().kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn workers_are_listed_by_state_and_labels() {
    let hive = Hive::start();
    let labels = std::collections::BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    hive.spawn_with(SpawnParams { labels: labels.clone(), ..params("a", "idle", "bare") }).await.unwrap();
    hive.spawn("b", "done", "bare").await.unwrap();
    hive.until("b", crate::WorkerView::has_ended).await;
    let names = |filter: WorkerFilter| {
        let spawner = Arc::clone(&hive.spawner);
        async move { spawner.list(&filter).await.into_iter().map(|v| v.worker_id).collect::<Vec<_>>() }
    };
    assert_eq!(names(WorkerFilter::default()).await, ["a", "b"]);
    assert_eq!(names(WorkerFilter { labels, ..Default::default() }).await, ["a"]);
    assert_eq!(names(WorkerFilter { state: Some(WorkerState::Stopped), ..Default::default() }).await, ["b"]);
    hive.stop("a", 0).await;
}
