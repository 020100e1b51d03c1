//! Groups whose daemons end, hang and go away at the wrong moment, over fakes.

use std::time::Duration;

use rbee_hive_sandbox::StoppedBy;
use tokio::time::timeout;

use crate::task::{Command, WorkerHandle};
use crate::tests::hive::{Hive, eventually, id, params};
use crate::{ErrorKind, EventKind, WorkerState, WorkerView};

const GPU: &str = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nmemory = \"80GiB\"\n";
const SIGKILL: i32 = 9;

fn hive() -> Hive {
    Hive::with(4, GPU)
}

/// The one daemon.
fn daemon(hive: &Hive) -> WorkerHandle {
    let daemons = hive.spawner.mps_daemons();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    daemons[0].clone()
}

async fn stop(daemon: &WorkerHandle) {
    daemon.commands.send(Command::Stop { by: StoppedBy::Request, grace: None }).await.unwrap();
}

async fn kill(daemon: &WorkerHandle) {
    daemon.commands.send(Command::Signal { signal: SIGKILL }).await.unwrap();
}

/// Why it has no MPS daemon; `None`: it has one.
fn gap(view: &WorkerView) -> Option<&str> {
    view.not_in_force.iter().find(|note| note.setting == "devices.mps").map(|note| note.why.as_str())
}

/// How often it was told that its daemon has ended.
async fn told(hive: &Hive, name: &str) -> usize {
    let events = hive.spawner.events().unwrap().after(0).await;
    let ended = events.iter().filter(|e| e.kind == EventKind::Device && e.data["act"] == "mps_ended");
    ended.filter(|e| e.worker_id.as_deref() == Some(name)).count()
}

async fn until_told(hive: &Hive, name: &str) {
    hive.until(name, |view| gap(view).is_some()).await;
    assert_eq!(told(hive, name).await, 1);
}

#[tokio::test]
async fn a_daemon_that_does_not_end_keeps_no_start_waiting() {
    for act in ["stubborn", "unkillable"] {
        let (hive, policy) = (hive(), format!("shared-{act}"));
        assert_eq!(gap(&hive.spawn("a", "hold", &policy).await.unwrap()), None);
        let daemon = daemon(&hive);
        stop(&daemon).await;
        daemon.until(|view| view.state == WorkerState::Stopping && (act == "stubborn" || view.verdict.is_some())).await.unwrap();
        tokio::time::pause();
        let late = timeout(Duration::from_secs(300), hive.spawner.spawn(params("b", "hold", &policy))).await;
        tokio::time::resume();
        let late = late.expect("it waits for the daemon's end").unwrap();
        assert!(gap(&late).is_some_and(|why| why.contains("does not end")), "{:?}", gap(&late));
        kill(&daemon).await;
        until_told(&hive, "a").await;
        assert_eq!(told(&hive, "b").await, 0, "it was none of its clients");
        assert_eq!(gap(&hive.spawn("c", "hold", &policy).await.unwrap()), None, "a new daemon");
    }
}

#[tokio::test]
async fn a_daemon_that_hangs_before_its_program_runs_is_stopped() {
    let hive = hive();
    tokio::time::pause();
    let start = timeout(Duration::from_secs(3600), hive.spawner.spawn(params("a", "hold", "shared-slow"))).await;
    tokio::time::resume();
    let started = start.expect("it waits for the daemon").unwrap();
    assert!(gap(&started).is_some_and(|why| why.contains("was not up after 630 s")), "{:?}", gap(&started));
    assert!(hive.spawner.mps_daemons().is_empty());
    hive.stop("a", 0).await;
    hive.until_no_init_is_left().await;
}

#[tokio::test]
async fn who_comes_while_the_last_one_goes_gets_no_second_daemon_beside_the_first() {
    let hive = hive();
    hive.spawn("a", "hold", "shared-stubborn").await.unwrap();
    let first = daemon(&hive);
    let spawner = hive.spawner.clone();
    let stopping = tokio::spawn(async move { spawner.stop(&id("a"), Some(0)).await });
    first.until(|view| view.state == WorkerState::Stopping).await.unwrap();
    let spawner = hive.spawner.clone();
    let start = tokio::spawn(async move { spawner.spawn(params("b", "hold", "shared-stubborn")).await });
    eventually("it does not come", || hive.spawner.devices().iter().any(|d| d.mps.iter().any(|mps| mps.clients == ["b"]))).await;
    assert!(daemon(&hive).is(&first), "its processes are no strangers while it ends");
    assert!(!start.is_finished() && !stopping.is_finished() && !first.view().has_ended());
    kill(&first).await;
    assert_eq!(stopping.await.unwrap().unwrap().state, WorkerState::Stopped);
    assert_eq!(gap(&start.await.unwrap().unwrap()), None);
    let second = daemon(&hive);
    assert!(!second.is(&first) && first.view().has_ended());
    assert_eq!(told(&hive, "b").await, 0, "the first was none of its");
    let spawner = hive.spawner.clone();
    let stopping = tokio::spawn(async move { spawner.stop(&id("b"), Some(0)).await });
    second.until(|view| view.state == WorkerState::Stopping).await.unwrap();
    kill(&second).await;
    stopping.await.unwrap().unwrap();
    assert!(hive.spawner.mps_daemons().is_empty());
    hive.until_no_init_is_left().await;
}

#[tokio::test]
async fn a_start_without_an_answer_keeps_its_lease_until_its_daemon_has_ended() {
    let hive = hive();
    let spawner = hive.spawner.clone();
    let start = tokio::spawn(async move { spawner.spawn(params("w", "unclear", "shared-stubborn")).await });
    eventually("no daemon is stopped", || {
        hive.spawner.mps_daemons().iter().any(|daemon| daemon.view.borrow().state == WorkerState::Stopping)
    })
    .await;
    assert_eq!(hive.spawner.leases().len(), 1);
    kill(&daemon(&hive)).await;
    assert_eq!(start.await.unwrap().unwrap_err().kind, ErrorKind::LauncherGone);
    assert!(hive.spawner.leases().is_empty() && hive.spawner.mps_daemons().is_empty());
}

#[tokio::test]
async fn a_daemon_that_ends_while_a_client_is_started_is_told_to_that_one_too() {
    let hive = hive();
    hive.spawn("a", "hold", "shared-hold").await.unwrap();
    hive.seen.close_gate();
    let spawner = hive.spawner.clone();
    let start = tokio::spawn(async move { spawner.spawn(params("b", "hold", "shared-hold")).await });
    eventually("it is no member", || hive.spawner.devices().iter().any(|d| d.mps.iter().any(|mps| mps.clients == ["a", "b"]))).await;
    kill(&daemon(&hive)).await;
    until_told(&hive, "a").await;
    hive.seen.open_gate();
    start.await.unwrap().unwrap();
    until_told(&hive, "b").await;
    assert_eq!(told(&hive, "a").await, 1);
}
