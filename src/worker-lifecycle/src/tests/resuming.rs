//! Started again by the hive after the one that had started it.

use std::sync::atomic::Ordering;

use rbee_hive_sandbox::Verdict;
use serde_json::json;

use super::adopting::{life, settled, status, told};
use super::forks;
use super::freezing::{answered, ask};
use super::hive::{Hive, Place, eventually, id, params};
use super::restarting::start;
use crate::{ErrorKind, EventKind, SpawnParams, WorkerState, WorkerView};

const CRASH: Verdict = Verdict::Exited { code: 3 };

fn is_down(view: &WorkerView) -> bool {
    view.state == WorkerState::Restarting
}

async fn lives(hive: &Hive, name: &str) -> Vec<Verdict> {
    hive.spawner.explain(&id(name)).await.unwrap().lives.into_iter().map(|life| life.verdict.verdict).collect()
}

/// A place with a worker whose last life is over, and whose next one is due.
fn down(act: &str, policy: &str) -> (Place, WorkerView) {
    let place = Place::lasting();
    let view = life(async || {
        let hive = place.hive("").await;
        let asked = SpawnParams { labels: [("team".to_owned(), "a".to_owned())].into(), ..params("w", act, policy) };
        hive.spawn_with(SpawnParams { wait: crate::WaitFor::Started, ..asked }).await.unwrap();
        hive.until("w", is_down).await;
        settled(&hive, "w").await
    });
    (place, view)
}

/// The next hive. What forks meanwhile would hold the ports of the one before.
async fn next(place: &Place, devices: &str) -> Hive {
    let no_fork = forks::none().await;
    let hive = place.hive(devices).await;
    drop(no_fork);
    hive
}

#[test]
fn who_was_between_two_lives_goes_on_waiting_and_is_started_with_all_that_it_had() {
    let (place, before) = down("crash-once", "soon");
    life(async || {
        let hive = next(&place, "").await;
        assert!(told(&hive).await.iter().all(|(kind, _)| *kind != EventKind::Verdict), "its fall was told");
        let waiting = ask(before.port.unwrap());
        let up = hive.until("w", |v| v.state == WorkerState::Ready).await;
        assert_eq!((up.restarts, up.port, &up.labels, &up.created_at), (1, before.port, &before.labels, &before.created_at));
        assert_eq!((up.verdict, lives(&hive, "w").await), (None, vec![CRASH]));
        assert_eq!(answered(waiting).await, b"hello", "who came before its next life is served by that");
        let texts: Vec<String> = hive.spawner.explain(&id("w")).await.unwrap().story.timeline.into_iter().map(|m| m.text).collect();
        assert!(texts.iter().any(|t| t.starts_with("restarting")), "its story goes on: {texts:?}");
        hive.stop("w", 0).await;
        hive.until_no_init_is_left().await;
    });
}

#[test]
fn who_is_down_can_be_stopped_and_nobody_else_gets_what_it_has() {
    let (place, before) = down("crash", "slowly");
    life(async || {
        let hive = next(&place, "").await;
        let view = status(&hive, "w").await;
        assert_eq!((view.state, view.restarts, view.pid, view.port), (WorkerState::Restarting, 0, None, before.port));
        assert_eq!(view.verdict.map(|v| v.verdict), Some(CRASH));
        assert_eq!(told(&hive).await, []);
        assert_ne!(hive.spawn("x", "serve", "unix").await.unwrap().port, before.port);
        let no_fork = forks::none().await;
        assert_eq!(hive.stop("w", 5000).await.state, WorkerState::Stopped);
        assert!(std::net::TcpListener::bind(("127.0.0.1", before.port.unwrap())).is_ok(), "its port is free");
        drop(no_fork);
        assert_eq!(lives(&hive, "w").await, [CRASH]);
        hive.stop("x", 0).await;
    });
}

#[test]
fn an_end_without_a_hive_is_told_and_counts_as_any_other() {
    let place = Place::lasting();
    life(async || {
        let hive = place.hive("").await;
        start(&hive, "w", "dies-alone", "soon").await;
        settled(&hive, "w").await;
    });
    life(async || {
        eventually("it lives", || place.seen().inits.load(Ordering::SeqCst) == 0).await;
        let hive = next(&place, "").await;
        let told = told(&hive).await;
        assert_eq!((told[0].0, &told[0].1["code"]), (EventKind::Verdict, &json!(4)));
        assert_eq!((told[1].0, &told[1].1), (EventKind::State, &json!({"state": "restarting", "pid": null, "found": "ended"})));
        let up = hive.until("w", |v| v.restarts == 1 && v.started_at.is_some()).await;
        assert_eq!((up.state, up.verdict, lives(&hive, "w").await), (WorkerState::Starting, None, vec![Verdict::Exited { code: 4 }]));
        hive.stop("w", 0).await;
    });
}

#[test]
fn a_worker_that_was_taken_over_is_started_again_as_often_as_its_policy_lets_it() {
    let place = Place::lasting();
    let before = life(async || {
        let hive = place.hive("").await;
        hive.spawn("w", "crash-once", "again").await.unwrap();
        settled(&hive, "w").await
    });
    life(async || {
        let hive = next(&place, "").await;
        hive.spawner.signal(&id("w"), 6).await.unwrap();
        let up = hive.until("w", |v| v.restarts == 2 && v.state == WorkerState::Ready).await;
        assert_eq!(up.port, before.port);
        assert_eq!(answered(ask(up.port.unwrap())).await, b"hello");
        hive.spawner.signal(&id("w"), 6).await.unwrap();
        let over = hive.until("w", WorkerView::has_ended).await;
        assert!(over.verdict.unwrap().message.ends_with("it was given up after 2 restarts in a row"), "the first one was before this hive");
        assert_eq!(lives(&hive, "w").await.len(), 3);
        hive.until_no_init_is_left().await;
    });
}

#[test]
fn of_whom_nobody_knows_what_was_asked_for_it_is_said_so() {
    let place = Place::lasting();
    life(async || {
        let hive = place.hive("").await;
        hive.spawn("w", "serve", "soon").await.unwrap();
        settled(&hive, "w").await;
    });
    std::fs::remove_file(place.hive_directory().join("workers/w.json")).unwrap();
    life(async || {
        let hive = next(&place, "").await;
        hive.until("w", |v| v.state == WorkerState::Ready).await;
        hive.spawner.signal(&id("w"), 6).await.unwrap();
        let over = hive.until("w", WorkerView::has_ended).await;
        let verdict = over.verdict.unwrap();
        assert_eq!((over.state, over.restarts), (WorkerState::Failed, 0));
        assert!(verdict.message.ends_with("it is not started again: nobody knows any more how"), "{}", verdict.message);
    });
}

#[test]
fn a_hive_that_leaves_leaves_the_next_start_to_the_one_after_it() {
    let place = Place::lasting();
    life(async || {
        let hive = place.hive("").await;
        start(&hive, "w", "crash-once", "soon").await;
        hive.until("w", is_down).await;
        hive.spawner.leave().await;
        // Longer than its pause: the start is refused by a hive that drains, and is not its any more.
        let late = hive.spawner.wait(&id("w"), crate::WaitFor::Exit, Some(std::time::Duration::from_millis(1200))).await;
        assert_eq!(late.unwrap_err().kind, ErrorKind::Timeout);
        assert!(is_down(&status(&hive, "w").await));
    });
    life(async || {
        let hive = next(&place, "").await;
        let up = hive.until("w", |v| v.state == WorkerState::Ready).await;
        assert_eq!((up.restarts, lives(&hive, "w").await), (1, vec![CRASH]));
        hive.stop("w", 0).await;
    });
}

const GPU: &str = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nname = \"G\"\nmemory = \"1GiB\"\nnodes = [\"/dev/full\"]\n";

#[test]
fn a_gpu_is_nobody_elses_while_its_worker_is_down_whichever_hive_is_there() {
    let place = Place::lasting();
    life(async || {
        let hive = place.hive(GPU).await;
        start(&hive, "w", "crash", "slow-gpu").await;
        hive.until("w", is_down).await;
        settled(&hive, "w").await;
    });
    life(async || {
        let hive = next(&place, GPU).await;
        assert_eq!(hive.spawn("x", "idle", "slow-gpu").await.unwrap_err().kind, ErrorKind::DeviceBusy);
        hive.stop("w", 0).await;
        assert_eq!(hive.spawn("x", "idle", "slow-gpu").await.unwrap().devices, ["GPU-0"]);
        hive.stop("x", 0).await;
    });
}
