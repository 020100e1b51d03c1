//! One hive after another: what lives goes on, what has ended is told as it was, and nothing is made up.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rbee_hive_sandbox::{StoppedBy, Verdict};
use serde_json::json;

use super::fake_init::SERVE_NOW;
use super::forks;
use super::hive::{Hive, Place, eventually, id, params};
use crate::{EventKind, Filter, SpawnParams, WaitFor, WorkerState, WorkerView};

/// A hive's whole life: everything of it ends with its runtime, as it does with a process.
pub(super) fn life<T>(of: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(of())
}

/// A worker that a hive has started and left.
fn left(place: &Place, params: SpawnParams) -> WorkerView {
    life(async || {
        let hive = place.hive("").await;
        let name = params.worker_id.clone().unwrap();
        hive.spawn_with(params).await.unwrap();
        settled(&hive, name.as_str()).await
    })
}

/// Once its record is as it is seen.
pub(super) async fn settled(hive: &Hive, name: &str) -> WorkerView {
    let handle = hive.spawner.registry().handle(name).unwrap();
    hive.spawner.flush_records().await;
    handle.view()
}

pub(super) async fn status(hive: &Hive, name: &str) -> WorkerView {
    hive.spawner.status(&id(name)).await.unwrap()
}

/// The events that a hive begins with.
pub(super) async fn told(hive: &Hive) -> Vec<(EventKind, serde_json::Value)> {
    let hub = std::sync::Arc::clone(hive.spawner.events().unwrap());
    if hub.last() == 0 {
        return vec![];
    }
    let mut feed = crate::Feed::new(hub, Some(0), Filter::default());
    // What an earlier hive has told is missing, and that is told first.
    let told = feed.next().await.into_iter().filter(|event| event.kind != EventKind::Cut);
    told.map(|event| (event.kind, event.data.clone())).collect()
}

#[test]
fn a_worker_goes_on_as_it_was_and_who_came_meanwhile_is_served() {
    let place = Place::lasting();
    let asked = SpawnParams { labels: [("team".to_owned(), "a".to_owned())].into(), ..params("w", "serve", "unix") };
    let before = left(&place, asked);
    let port = before.port.unwrap();
    let mut waiting = TcpStream::connect(("127.0.0.1", port)).expect("its init keeps the port");
    waiting.write_all(b"GET /health HTTP/1.1\r\n\r\n").unwrap();
    life(async || {
        let hive = place.hive("").await;
        let after = status(&hive, "w").await;
        assert_eq!((after.state, after.pid, after.port), (WorkerState::Ready, before.pid, before.port));
        assert_eq!((&after.labels, &after.model, &after.devices), (&before.labels, &before.model, &before.devices));
        let times = |v: &WorkerView| (v.created_at.clone(), v.started_at.clone(), v.ready_at.clone(), v.restarts);
        assert_eq!(times(&after), times(&before));
        assert!(after.generation > before.generation, "{} after {}", after.generation, before.generation);
        assert_eq!(told(&hive).await, [(EventKind::State, json!({"state": "ready", "pid": before.pid, "found": "living"}))]);
        let answer = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            waiting.read_to_string(&mut text).map(|_| text)
        });
        assert!(answer.await.unwrap().unwrap().starts_with("HTTP/1.1 200"), "it waited in the backlog");
        assert_eq!(hive.spawn("w", "serve", "unix").await.unwrap_err().kind, crate::ErrorKind::AlreadyExists);
        let no_fork = forks::none().await;
        assert_eq!(hive.stop("w", 1000).await.state, WorkerState::Stopped);
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "the port is free when the stop returns");
        drop(no_fork);
        hive.until_no_init_is_left().await;
        settled(&hive, "w").await;
    });
    // And a third hive lists it as it ended, without telling it again.
    life(async || {
        let hive = place.hive("").await;
        let ended = status(&hive, "w").await;
        assert!(matches!(ended.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Request, .. }));
        assert_eq!((ended.state, ended.labels), (WorkerState::Stopped, before.labels.clone()));
        assert_eq!(told(&hive).await, []);
        hive.spawner.delete(&id("w")).await.unwrap();
        hive.spawn("w", "done", "bare").await.unwrap();
    });
}

#[test]
fn who_ended_meanwhile_has_the_verdict_that_its_init_wrote_and_it_is_told_once() {
    let place = Place::lasting();
    left(&place, params("w", "dies-alone", "bare"));
    for (restart, events) in [(1, 2), (2, 0)] {
        life(async || {
            // The init hears of the hive's end in its own time.
            eventually("it lives", || place.seen().inits.load(std::sync::atomic::Ordering::SeqCst) == 0).await;
            let hive = place.hive("").await;
            let view = status(&hive, "w").await;
            assert_eq!((view.state, view.pid), (WorkerState::Failed, None), "restart {restart}");
            assert_eq!(view.verdict.unwrap().verdict, Verdict::Exited { code: 4 });
            let told = told(&hive).await;
            assert_eq!(told.len(), events, "restart {restart}: {told:?}");
            if events > 0 {
                assert_eq!((told[0].0, &told[1].1["found"]), (EventKind::Verdict, &json!("ended")));
            }
            settled(&hive, "w").await;
        });
    }
}

#[test]
fn a_worker_that_nobody_finds_again_is_lost_with_why_and_keeps_its_name() {
    let place = Place::lasting();
    let before = left(&place, params("w", "idle", "bare"));
    life(async || {
        // The launcher's record of it is gone.
        place.seen().world.inits.lock().unwrap().clear();
        let hive = place.hive("").await;
        let view = status(&hive, "w").await;
        let Verdict::Lost { why } = view.verdict.unwrap().verdict else { panic!("not lost") };
        assert!(why.contains("record of it is gone"), "{why}");
        assert_eq!((view.state, view.ended_at, view.created_at), (WorkerState::Failed, None, before.created_at));
        assert_eq!(hive.spawn("w", "done", "bare").await.unwrap_err().kind, crate::ErrorKind::AlreadyExists);
        hive.spawner.delete(&id("w")).await.unwrap();
        hive.spawn("w", "done", "bare").await.unwrap();
    });
}

#[test]
fn a_worker_is_taken_over_without_its_record_and_a_record_of_another_is_not_its_own() {
    let place = Place::lasting();
    let asked = SpawnParams { labels: [("team".to_owned(), "a".to_owned())].into(), ..params("w", "serve", "unix") };
    let before = left(&place, asked);
    let record = place.hive_directory().join("workers/w.json");
    let other = std::fs::read_to_string(&record).unwrap().replace(&format!("\"init_pid\":{}", std::process::id()), "\"init_pid\":1");
    std::fs::write(&record, other).unwrap();
    life(async || {
        let hive = place.hive("").await;
        let found = hive.until("w", |v| v.state == WorkerState::Ready).await;
        assert_eq!((found.pid, found.port, found.labels.len(), found.model.as_str()), (before.pid, before.port, 0, ""));
        assert!(found.ready_at.is_some(), "it has answered this hive");
        hive.stop("w", 0).await;
    });
}

#[test]
fn what_is_frozen_stays_so_and_what_is_starting_or_stopping_goes_on() {
    let place = Place::lasting();
    life(async || {
        let hive = place.hive("").await;
        hive.spawn("frozen", "serve", "unix").await.unwrap();
        hive.spawner.freeze(&id("frozen")).await.unwrap();
        hive.spawn_with(SpawnParams { wait: WaitFor::Started, ..params("starting", "idle", "unix") }).await.unwrap();
        hive.spawn("stopping", "stubborn", "bare").await.unwrap();
        let spawner = std::sync::Arc::clone(&hive.spawner);
        tokio::spawn(async move { spawner.stop(&id("stopping"), Some(600_000)).await });
        hive.until("stopping", |v| v.state == WorkerState::Stopping).await;
        hive.spawner.flush_records().await;
    });
    life(async || {
        let hive = place.hive("").await;
        for name in ["frozen", "starting", "stopping"] {
            let state = serde_json::to_value(status(&hive, name).await.state).unwrap();
            assert_eq!(state, json!(name));
        }
        assert_eq!(hive.spawner.thaw(&id("frozen")).await.unwrap().state, WorkerState::Ready);
        hive.spawner.signal(&id("starting"), SERVE_NOW).await.unwrap();
        hive.until("starting", |v| v.state == WorkerState::Ready).await;
        let stopped = hive.stop("stopping", 0).await;
        assert!(matches!(stopped.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Request, forced: true, .. }));
        for name in ["frozen", "starting"] {
            hive.stop(name, 0).await;
        }
        hive.until_no_init_is_left().await;
    });
}

const GPU: &str = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nname = \"G\"\nmemory = \"1GiB\"\nnodes = [\"/dev/full\"]\n";

#[test]
fn a_worker_has_its_lease_again_under_its_number_and_deleted_ones_are_explained() {
    let place = Place::lasting();
    life(async || {
        let hive = place.hive(GPU).await;
        hive.spawn("cpu", "idle", "bare").await.unwrap();
        hive.spawn("gpu", "idle", "gpu").await.unwrap();
        hive.spawn("gone", "done", "bare").await.unwrap();
        hive.spawner.delete(&id("gone")).await.unwrap();
        hive.spawner.flush_records().await;
    });
    life(async || {
        let hive = place.hive(GPU).await;
        let leases: Vec<_> = hive.spawner.leases().into_iter().map(|l| (l.lease.lease_id, l.lease.holder, l.lease.devices)).collect();
        let lease = |id: &str, holder: &str, device: &str| (id.to_owned(), holder.to_owned(), vec![device.to_owned()]);
        assert_eq!(leases, [lease("lease:1", "cpu", "CPU-0"), lease("lease:2", "gpu", "GPU-0")]);
        assert_eq!(hive.spawn("next", "idle", "gpu").await.unwrap_err().kind, crate::ErrorKind::DeviceBusy);
        assert_eq!(hive.spawner.explain(&id("gone")).await.unwrap().policy, "bare");
        assert_eq!(hive.spawner.delete(&id("gone")).await.unwrap().state, WorkerState::Stopped);
        hive.stop("gpu", 0).await;
        hive.spawn("next", "idle", "gpu").await.unwrap();
        for name in ["cpu", "next"] {
            hive.stop(name, 0).await;
        }
    });
}

#[test]
fn an_init_that_says_nothing_is_waited_for_a_moment_and_can_still_be_stopped() {
    let place = Place::lasting();
    let before = left(&place, params("w", "mute", "bare"));
    life(async || {
        let hive = place.not_adopted("");
        tokio::time::timeout(Duration::from_secs(15), hive.spawner.adopt()).await.expect("adoption waits for it");
        let view = status(&hive, "w").await;
        assert_eq!(
            (view.state, view.pid, view.init_pid),
            (WorkerState::Ready, None, before.init_pid),
            "as it was seen last, and no process"
        );
        assert_eq!(hive.stop("w", 0).await.state, WorkerState::Stopped);
    });
}

#[tokio::test]
async fn an_end_that_an_init_could_tell_nobody_is_what_it_has_written_down() {
    let place = Place::lasting();
    place.write_verdict("w", &json!({"kind": "exited", "code": 3}));
    let hive = place.hive("").await;
    let error = hive.spawn("w", "vanish", "unix").await.unwrap_err();
    assert_eq!(error.verdict.unwrap().verdict, Verdict::Exited { code: 3 });
    assert_eq!(status(&hive, "w").await.resources.cpu_usage_usec, Some(9));
    let error = hive.spawn("x", "vanish", "unix").await.unwrap_err();
    assert!(matches!(error.verdict.unwrap().verdict, Verdict::Lost { .. }), "nothing was written of that one");
}

#[test]
fn a_hive_that_leaves_stops_who_ends_with_it_and_leaves_the_others() {
    let place = Place::lasting();
    life(async || {
        let hive = place.hive("").await;
        for (name, policy) in [("kept", "unix"), ("dying", "dies")] {
            hive.spawn(name, "serve", policy).await.unwrap();
        }
        hive.spawner.leave().await;
        assert_eq!((status(&hive, "kept").await.state, status(&hive, "dying").await.state), (WorkerState::Ready, WorkerState::Stopped));
        assert!(hive.spawner.draining() && !hive.launcher.is_gone(), "it ends with this process, and not before");
    });
    life(async || {
        let hive = place.hive("").await;
        assert_eq!((status(&hive, "kept").await.state, status(&hive, "dying").await.state), (WorkerState::Ready, WorkerState::Stopped));
        hive.stop("kept", 0).await;
    });
}
