//! Stops, deletes, and ends that nobody asked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rbee_hive_sandbox::{StoppedBy, Verdict};

use super::forks;
use super::hive::{Hive, eventually, id, params};
use crate::{ErrorKind, SpawnParams, WaitFor, WorkerState};

#[tokio::test]
async fn a_stopped_worker_has_given_its_port_back_and_stopping_it_again_is_nothing() {
    let hive = Hive::with(1, "");
    hive.spawn("w", "serve", "unix").await.unwrap();
    assert_eq!(hive.spawner.find_available_port().unwrap_err().kind, ErrorKind::NoFreePort);
    let no_fork = forks::none().await;
    let view = hive.stop("w", 5000).await;
    assert!(hive.spawner.find_available_port().is_ok(), "the port is free when the stop returns");
    drop(no_fork);
    assert_eq!(view.state, WorkerState::Stopped);
    assert!(matches!(view.verdict.clone().unwrap().verdict, Verdict::Stopped { by: StoppedBy::Request, forced: false, .. }));
    assert_eq!(hive.stop("w", 0).await, view);
}

#[tokio::test]
async fn a_stop_before_the_program_is_executed_is_a_stop() {
    let hive = Hive::start();
    let spawner = Arc::clone(&hive.spawner);
    let spawning = tokio::spawn(async move { spawner.spawn(params("w", "slow", "unix")).await });
    eventually("the launcher is not asked", || hive.seen.spawns.load(Ordering::SeqCst) == 1).await;
    let view = hive.stop("w", 0).await;
    assert_eq!(view.state, WorkerState::Stopped);
    let error = spawning.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::StartFailed);
    assert!(matches!(error.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Request, .. }));
}

#[tokio::test]
async fn a_stop_that_comes_before_the_launchers_answer_is_not_lost() {
    let hive = Hive::start();
    hive.seen.close_gate();
    let (a, b) = (Arc::clone(&hive.spawner), Arc::clone(&hive.spawner));
    let spawning = tokio::spawn(async move { a.spawn(params("w", "serve", "unix")).await });
    eventually("the launcher is not asked", || hive.seen.spawns.load(Ordering::SeqCst) == 1).await;
    let stopping = tokio::spawn(async move { b.stop(&id("w"), Some(0)).await });
    tokio::task::yield_now().await;
    hive.seen.open_gate();
    assert_eq!(stopping.await.unwrap().unwrap().state, WorkerState::Stopped);
    assert_eq!(spawning.await.unwrap().unwrap_err().kind, ErrorKind::StartFailed);
    hive.until_no_init_is_left().await;
}

#[tokio::test]
async fn a_stop_while_it_is_probed_is_a_stop_and_no_start_timeout() {
    let hive = Hive::start();
    hive.spawn_with(SpawnParams { wait: WaitFor::Started, ..params("w", "stubborn", "impatient") }).await.unwrap();
    let spawner = Arc::clone(&hive.spawner);
    let patient = tokio::spawn(async move { spawner.stop(&id("w"), Some(60_000)).await });
    hive.until("w", |v| v.state == WorkerState::Stopping).await;
    // Longer than its start may take: the probes must not hasten a stop that was granted more time.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().state, WorkerState::Stopping);
    hive.stop("w", 0).await;
    let view = patient.await.unwrap().unwrap();
    assert!(
        matches!(view.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Request, forced: true, .. }),
        "hastened by the second"
    );
}

#[tokio::test]
async fn an_end_by_itself_is_shown_at_once() {
    let hive = Hive::start();
    let mut took = vec![];
    for n in 0..9 {
        let name = format!("w{n}");
        hive.spawn(&name, "serve", "bare").await.unwrap();
        let asked = Instant::now();
        hive.spawner.signal(&id(&name), 9).await.unwrap();
        let view = hive.until(&name, crate::WorkerView::has_ended).await;
        took.push(asked.elapsed());
        assert_eq!(view.verdict.unwrap().verdict, Verdict::Signaled { signal: 9, core_dumped: false });
        assert!(view.ended_at.is_some() && view.pid.is_none());
    }
    took.sort();
    assert!(took[4] < Duration::from_millis(50), "median of {took:?}");
}

#[tokio::test]
async fn an_init_that_goes_without_a_word_is_lost_with_what_is_known_of_it() {
    let hive = Hive::start();
    let error = hive.spawn("w", "vanish", "unix").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::StartFailed);
    let Verdict::Lost { why } = error.verdict.unwrap().verdict else { panic!("not lost") };
    assert!(why.contains("killed by signal 9 without a word"), "{why}");
    let error = hive.spawn("x", "vanish-early", "unix").await.unwrap_err();
    let Verdict::Lost { why } = error.verdict.unwrap().verdict else { panic!("not lost") };
    assert!(why.contains("before the program was executed"), "{why}");
}

#[tokio::test]
async fn a_worker_that_does_not_die_is_told_so_and_still_hears() {
    let hive = Hive::start();
    hive.spawn("w", "unkillable", "unix").await.unwrap();
    let spawner = Arc::clone(&hive.spawner);
    let first = tokio::spawn(async move { spawner.stop(&id("w"), Some(0)).await });
    let stuck = hive.until("w", |v| v.verdict.is_some()).await;
    assert_eq!(stuck.state, WorkerState::Stopping, "it has not ended");
    assert_eq!(stuck.verdict.unwrap().verdict, Verdict::Unkillable { pids: vec![stuck.pid.unwrap()] });
    assert_eq!(hive.stop("w", 0).await.state, WorkerState::Stopped, "it died in the end");
    assert!(matches!(first.await.unwrap().unwrap().verdict.unwrap().verdict, Verdict::Stopped { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_stop_never_hangs_and_names_what_is_left() {
    let hive = Hive::start();
    let spawner = Arc::clone(&hive.spawner);
    // Real threads answer while the clock stands: the start is waited for without one.
    let _ =
        tokio::spawn(async move { spawner.spawn(SpawnParams { wait: WaitFor::Started, ..params("w", "stubborn", "bare") }).await }).await;
    let asked = tokio::time::Instant::now();
    let error = hive.spawner.stop(&id("w"), Some(2000)).await.unwrap_err();
    assert_eq!((error.kind, asked.elapsed().as_secs()), (ErrorKind::Timeout, 32));
    let pid = hive.spawner.status(&id("w")).await.unwrap().pid.unwrap();
    assert_eq!(error.verdict.unwrap().verdict, Verdict::Unkillable { pids: vec![pid] });
    assert_eq!(hive.seen.killed.load(Ordering::SeqCst), 1, "the launcher was told to kill the silent init");
    tokio::time::resume();
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_deleted_worker_is_forgotten_and_its_name_is_free() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "unix").await.unwrap();
    assert_eq!(hive.spawner.delete(&id("w")).await.unwrap().state, WorkerState::Stopped);
    assert_eq!(hive.seen.forgotten.load(Ordering::SeqCst), 1);
    hive.spawn("w", "done", "bare").await.unwrap();
}

#[tokio::test]
async fn the_slower_of_two_deletes_spares_the_next_worker_of_that_name() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "bare").await.unwrap();
    let old = hive.spawner.registry().handle("w").unwrap();
    hive.spawner.delete(&id("w")).await.unwrap();
    hive.spawn("w", "serve", "bare").await.unwrap();
    // What the slower one does last.
    hive.spawner.registry().remove_this(&old);
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().state, WorkerState::Ready);
    let new = hive.spawner.registry().handle("w").unwrap();
    hive.stop("w", 0).await;
    hive.spawner.registry().remove_this(&new);
    assert!(hive.spawner.registry().is_empty());
}

#[tokio::test]
async fn a_worker_deleted_again_is_told_as_it_ended_and_one_that_never_was_is_not_found() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "bare").await.unwrap();
    let deleted = hive.spawner.delete(&id("w")).await.unwrap();
    assert_eq!(hive.spawner.delete(&id("w")).await.unwrap(), deleted);
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(hive.spawner.delete(&id("x")).await.unwrap_err().kind, ErrorKind::NotFound);
    hive.spawn("w", "serve", "bare").await.unwrap();
    assert_ne!(hive.spawner.delete(&id("w")).await.unwrap().created_at, deleted.created_at, "the newer one's end is told");
    assert_ne!(hive.spawner.delete(&id("w")).await.unwrap().created_at, deleted.created_at);
}

#[tokio::test]
async fn a_signal_needs_a_process_and_a_number_that_is_one() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "bare").await.unwrap();
    for number in [0, -9, 65] {
        assert_eq!(hive.spawner.signal(&id("w"), number).await.unwrap_err().kind, ErrorKind::InvalidParams, "{number}");
    }
    hive.spawner.signal(&id("w"), 15).await.unwrap();
    hive.until("w", crate::WorkerView::has_ended).await;
    assert_eq!(hive.spawner.signal(&id("w"), 15).await.unwrap_err().kind, ErrorKind::NotAllowedNow);
}

#[tokio::test]
async fn a_shutdown_stops_every_worker_and_ends_the_launcher() {
    let hive = Hive::start();
    for name in ["a", "b", "c"] {
        hive.spawn(name, "serve", "unix").await.unwrap();
    }
    hive.spawner.shutdown().await;
    assert!(hive.spawner.draining() && hive.launcher.is_gone());
    assert_eq!(hive.seen.shutdowns.load(Ordering::SeqCst), 1);
    for name in ["a", "b", "c"] {
        let verdict = hive.spawner.status(&id(name)).await.unwrap().verdict.unwrap().verdict;
        assert!(matches!(verdict, Verdict::Stopped { by: StoppedBy::Shutdown, .. }), "{verdict:?}");
    }
    hive.until_no_init_is_left().await;
}
