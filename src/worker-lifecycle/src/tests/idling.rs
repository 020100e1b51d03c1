//! What follows from idleness, over a cgroup whose CPU time stands still.

use std::sync::atomic::Ordering;

use rbee_hive_devices::DeviceSpec;
use rbee_hive_sandbox::{StoppedBy, Verdict};
use serde_json::Value;
use tokio::net::TcpStream;

use super::freezing::{answered, ask};
use super::hive::{Hive, SOON, id, params};
use crate::{ErrorKind, EventKind, Feed, Filter, LeaseLife, SpawnParams, WorkerState, WorkerView};

/// The acts on idle workers, as they are told.
async fn acts(hive: &Hive, wanted: usize) -> Vec<Value> {
    let filter = Filter { kind: Some(EventKind::Idle), ..Filter::default() };
    let mut feed = Feed::new(std::sync::Arc::clone(hive.spawner.events().unwrap()), Some(0), filter);
    let mut told = vec![];
    let reading = async {
        while told.len() < wanted {
            told.extend(feed.next().await.into_iter().map(|event| event.data.clone()));
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("nothing is told");
    told
}

#[tokio::test]
async fn an_idle_worker_is_frozen_and_the_next_connection_wakes_it() {
    let hive = Hive::start();
    let port = hive.spawn("w", "serve", "naps").await.unwrap().port.unwrap();
    let kept = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().state, WorkerState::Ready, "it has an open connection");
    drop(kept);
    hive.until("w", |v| v.state == WorkerState::Frozen).await;
    assert_eq!(answered(ask(port)).await, b"hello");
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().state, WorkerState::Ready);
    hive.until("w", |v| v.state == WorkerState::Frozen).await;
    let told = acts(&hive, 3).await;
    assert_eq!(told.iter().map(|t| t["action"].clone()).collect::<Vec<_>>(), ["freeze", "wake", "freeze"]);
    assert!(told[0]["idle_ms"].as_u64().is_some_and(|ms| ms >= 1000), "{told:?}");
    // From now on a client's wish: no connection wakes it.
    hive.spawner.freeze(&id("w")).await.unwrap();
    let waits = ask(port);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!waits.is_finished());
    hive.spawner.thaw(&id("w")).await.unwrap();
    assert_eq!(answered(waits).await, b"hello");
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn idle_memory_is_taken_back_once_and_an_idle_worker_may_be_stopped() {
    let hive = Hive::start();
    hive.spawn("small", "serve", "shrinks").await.unwrap();
    hive.spawn("gone", "serve", "leaves").await.unwrap();
    let view = hive.until("gone", WorkerView::has_ended).await;
    assert_eq!(view.state, WorkerState::Stopped);
    assert!(matches!(view.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Idle, .. }));
    let told = acts(&hive, 2).await;
    let of = |action: &str| told.iter().filter(|t| t["action"] == action).collect::<Vec<_>>();
    assert_eq!((of("stop").len(), of("reclaim").len()), (1, 1), "{told:?}");
    assert_eq!(of("reclaim")[0]["reclaimed_bytes"], 4096);
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert_eq!(acts(&hive, 2).await.len(), 2, "it was done again to a worker that nobody has used since");
    hive.stop("small", 0).await;
}

#[tokio::test]
async fn one_too_many_makes_the_least_recently_used_idle_one_go_or_is_refused() {
    let hive = Hive::start();
    let old = hive.spawn("old", "serve", "two").await.unwrap().port.unwrap();
    hive.spawn("older", "serve", "two").await.unwrap();
    let full = hive.spawn("soon", "serve", "two").await.unwrap_err();
    assert!(full.kind == ErrorKind::AtCapacity && full.message.contains("max_warm"), "{full:?}");
    assert!(!hive.spawner.registry().contains("soon"), "what is refused leaves nothing");
    let idle = |name: &str, ms| hive.spawner.registry().handle(name).unwrap().usage.idle_for().is_some_and(|t| t.as_millis() >= ms);
    super::hive::eventually("nobody looks at them", || idle("old", 0) && idle("older", 0)).await;
    // Used later than the other one.
    assert_eq!(answered(ask(old)).await, b"hello");
    super::hive::eventually("nobody is idle", || idle("old", 1000) && idle("older", 1000)).await;
    hive.spawn("new", "serve", "two").await.unwrap();
    let state = |name: &str| hive.spawner.registry().handle(name).unwrap().view();
    assert!(matches!(state("older").verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Evicted, .. }));
    assert_eq!((state("old").state, state("new").state), (WorkerState::Ready, WorkerState::Ready));
    let told = acts(&hive, 1).await;
    assert_eq!((&told[0]["action"], &told[0]["for"]), (&Value::from("evict"), &Value::from("new")));
    hive.stop("old", 0).await;
    hive.stop("new", 0).await;
}

async fn until_idle(hive: &Hive, name: &str) {
    let usage = || hive.spawner.registry().handle(name).unwrap().usage.idle_for().is_some_and(|t| t.as_millis() >= 1000);
    super::hive::eventually("it is not idle", usage).await;
}

#[tokio::test]
async fn nobody_is_stopped_for_a_start_that_is_refused_anyhow() {
    let hive = Hive::with(2, "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n[[gpu]]\nindex = 1\nvendor = \"nvidia\"\n");
    let engine = hive.spawner.lease_acquire("engine", DeviceSpec::Gpus(vec![1]), LeaseLife::default()).await.unwrap();
    hive.spawn("old", "serve", "one").await.unwrap();
    until_idle(&hive, "old").await;
    let on = |device| SpawnParams { device, ..params("new", "serve", "one") };
    let lease = |id: &str| SpawnParams { lease_id: Some(id.into()), ..params("new", "serve", "one") };
    for (params, kind) in [
        (on(DeviceSpec::Gpus(vec![99])), ErrorKind::NoSuchDevice),
        (on(DeviceSpec::Gpus(vec![1])), ErrorKind::DeviceBusy),
        (lease("lease:99"), ErrorKind::NotFound),
        (SpawnParams { device: DeviceSpec::Gpus(vec![0]), ..lease(&engine.lease.lease_id) }, ErrorKind::InvalidParams),
        (params("new", "refused", "one"), ErrorKind::ModelNotFound),
    ] {
        assert_eq!(hive.spawn_with(params).await.unwrap_err().kind, kind);
        let old = hive.spawner.status(&id("old")).await.unwrap();
        assert_eq!(old.state, WorkerState::Ready, "it was stopped for a start that got {kind:?}");
    }
    // Its GPU and its port are what the new one gets.
    let held = hive.spawn("held", "hold", "held").await.unwrap();
    let new = hive.spawn_with(on(DeviceSpec::Gpus(vec![0]))).await.unwrap();
    assert_eq!((new.devices.as_slice(), held.port.is_some()), (["GPU-0".to_owned()].as_slice(), true));
    hive.stop("held", 0).await;
    hive.stop("new", 0).await;
}

#[tokio::test]
async fn nobody_is_stopped_for_one_more_worker_than_there_may_be() {
    let hive = Hive::small(1);
    hive.spawn("old", "serve", "one").await.unwrap();
    until_idle(&hive, "old").await;
    let full = hive.spawn("new", "serve", "one").await.unwrap_err();
    assert!(full.kind == ErrorKind::AtCapacity && full.message.contains("the configuration allows"), "{full:?}");
    assert_eq!(hive.spawner.status(&id("old")).await.unwrap().state, WorkerState::Ready);
    hive.stop("old", 0).await;
}

/// A start that makes room, at the point where the launcher looks for its files.
async fn making_room(hive: &Hive) -> tokio::task::JoinHandle<Result<WorkerView, crate::LifecycleError>> {
    hive.spawn("old", "serve", "one").await.unwrap();
    until_idle(hive, "old").await;
    hive.seen.close_gate();
    let spawner = std::sync::Arc::clone(&hive.spawner);
    let new = tokio::spawn(async move { spawner.spawn(params("new", "serve", "one")).await });
    super::hive::eventually("the launcher is not asked", || hive.seen.finds.load(Ordering::SeqCst) == 1).await;
    new
}

#[tokio::test]
async fn who_is_used_again_before_it_has_made_room_is_not_stopped() {
    let hive = Hive::start();
    let new = making_room(&hive).await;
    let old = hive.spawner.registry().handle("old").unwrap();
    let _client = TcpStream::connect(("127.0.0.1", old.view().port.unwrap())).await.unwrap();
    super::hive::eventually("its connection is not seen", || old.usage.open() == 1).await;
    hive.seen.open_gate();
    let full = new.await.unwrap().unwrap_err();
    assert!(full.kind == ErrorKind::AtCapacity && full.message.contains("none of them is idle"), "{full:?}");
    assert_eq!(old.view().state, WorkerState::Ready);
    hive.stop("old", 0).await;
}

#[tokio::test]
async fn who_goes_by_itself_before_it_has_made_room_has_made_room() {
    let hive = Hive::start();
    let new = making_room(&hive).await;
    let spawner = std::sync::Arc::clone(&hive.spawner);
    let stop = tokio::spawn(async move { spawner.stop(&id("old"), Some(0)).await });
    hive.until("old", |view| view.state == WorkerState::Stopping || view.has_ended()).await;
    hive.seen.open_gate();
    assert_eq!(stop.await.unwrap().unwrap().state, WorkerState::Stopped);
    assert_eq!(new.await.unwrap().unwrap().state, WorkerState::Ready);
    hive.stop("new", 0).await;
}

#[tokio::test]
async fn a_draining_hive_stops_nobody_for_a_start_and_starts_nothing_that_was_making_room() {
    let hive = Hive::start();
    let new = making_room(&hive).await;
    hive.spawner.drain();
    hive.seen.open_gate();
    assert_eq!(new.await.unwrap().unwrap_err().kind, ErrorKind::Draining);
    let registry = hive.spawner.registry();
    assert!(!registry.contains("new") && registry.handle("old").unwrap().view().state == WorkerState::Ready);
    hive.stop("old", 0).await;
}

#[tokio::test]
async fn a_start_that_is_stopped_while_it_makes_room_ends_and_nobody_is_stopped_for_it() {
    let hive = Hive::start();
    let new = making_room(&hive).await;
    let spawner = std::sync::Arc::clone(&hive.spawner);
    let stop = tokio::spawn(async move { spawner.stop(&id("new"), None).await });
    let commands = hive.spawner.registry().handle("new").unwrap().commands;
    super::hive::eventually("it is not told", || commands.capacity() < commands.max_capacity()).await;
    hive.seen.open_gate();
    let stopped = stop.await.unwrap().unwrap();
    assert!(matches!(stopped.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Request, forced: false, .. }));
    assert_eq!(new.await.unwrap().unwrap_err().kind, ErrorKind::StartFailed);
    assert_eq!(hive.spawner.status(&id("old")).await.unwrap().state, WorkerState::Ready);
    hive.stop("old", 0).await;
}
