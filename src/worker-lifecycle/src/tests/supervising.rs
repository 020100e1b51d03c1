//! Whether a worker that is ready goes on answering, and what it says of itself.

use rbee_hive_sandbox::{StoppedBy, Verdict};

use super::fake_init::NOTIFY_NOW;
use super::hive::{Hive, id};
use super::restarting::start;
use crate::{WorkerState, WorkerView};

#[tokio::test]
async fn a_worker_that_stops_answering_is_unhealthy_then_ended_and_started_again() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "silent").await.unwrap();
    hive.until("w", |v| v.restarts == 1 && v.state == WorkerState::Ready).await;
    let lives = hive.spawner.explain(&id("w")).await.unwrap().lives;
    let Verdict::HealthFailed { last_probe: Some(seen) } = &lives[0].verdict.verdict else { panic!("{lives:?}") };
    assert!(!seen.is_empty() && lives[0].ready_at.is_some(), "{seen}");
    let view = hive.until("w", WorkerView::has_ended).await;
    assert_eq!(view.state, WorkerState::Failed);
    let verdict = view.verdict.unwrap();
    assert!(matches!(verdict.verdict, Verdict::HealthFailed { .. }) && verdict.message.contains("given up"), "{verdict:?}");
}

#[tokio::test]
async fn an_unhealthy_worker_goes_on_where_nothing_follows_and_is_frozen_thawed_and_stopped_like_a_ready_one() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "unwell").await.unwrap();
    hive.until("w", |v| v.state == WorkerState::Unhealthy).await;
    assert_eq!(hive.spawner.freeze(&id("w")).await.unwrap().state, WorkerState::Frozen);
    assert_eq!(hive.spawner.thaw(&id("w")).await.unwrap().state, WorkerState::Ready, "it answers as at its start");
    hive.until("w", |v| v.state == WorkerState::Unhealthy).await;
    let view = hive.stop("w", 5000).await;
    assert!(matches!(view.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Request, .. }));
    assert_eq!((view.state, view.restarts), (WorkerState::Stopped, 0));
}

#[tokio::test]
async fn a_worker_that_answers_is_left_alone() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "well").await.unwrap();
    // Longer than two of its probes take.
    let ended = hive.spawner.wait(&id("w"), crate::WaitFor::Exit, Some(std::time::Duration::from_millis(2500))).await;
    assert_eq!(ended.unwrap_err().kind, crate::ErrorKind::Timeout);
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().state, WorkerState::Ready);
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn what_a_worker_says_of_itself_is_shown_and_one_that_falls_silent_is_ended() {
    let hive = Hive::start();
    assert_eq!(start(&hive, "w", "idle", "watchdog").await.status_text, None);
    hive.spawner.signal(&id("w"), NOTIFY_NOW).await.unwrap();
    let ready = hive.until("w", |v| v.state == WorkerState::Ready).await;
    assert_eq!(ready.status_text.as_deref(), Some("up"));
    let view = hive.until("w", WorkerView::has_ended).await;
    let Verdict::HealthFailed { last_probe: Some(seen) } = view.verdict.unwrap().verdict else { panic!("no last probe") };
    assert!(seen.starts_with("no WATCHDOG=1 for 1"), "{seen}");
    assert_eq!((view.state, view.restarts), (WorkerState::Failed, 0));
}
