//! One life after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rbee_hive_policy::{Life, LimitKey, LimitValue};
use rbee_hive_sandbox::protocol::BelowUse;
use rbee_hive_sandbox::{StoppedBy, Verdict};

use super::forks;
use super::freezing::{answered, ask};
use super::hive::{Hive, id, params};
use crate::{ErrorKind, EventKind, Feed, Filter, SpawnParams, WaitFor, WorkerState, WorkerView};

/// Policies of these tests.
pub(super) const POLICIES: &[(&str, &str)] = &[
    (
        "again",
        "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[restart]\nwhen = \"on-failure\"\nmax_restarts = 2\nbackoff = \"100ms\"\n",
    ),
    (
        "slowly",
        "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[restart]\nwhen = \"on-failure\"\n[request]\nmay_set = [\"limits\"]\n",
    ),
    ("soon", "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[restart]\nwhen = \"on-failure\"\nbackoff = \"500ms\"\n"),
    (
        "always",
        "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\n[network]\nmode = \"none\"\n[readiness]\nnone = true\n[restart]\nwhen = \"always\"\nmax_restarts = 1\n\
         backoff = \"100ms\"\n",
    ),
    (
        "slow-gpu",
        "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\n[network]\nmode = \"none\"\n[readiness]\nnone = true\n[devices]\ngpus = \"leased\"\n\
         [restart]\nwhen = \"on-failure\"\n",
    ),
    (
        "roomy",
        "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\n[network]\nmode = \"none\"\n[readiness]\nnone = true\n[limits]\npids_max = 9\n\
         [restart]\nwhen = \"on-failure\"\nbackoff = \"100ms\"\n[request]\nmay_set = [\"limits\"]\n",
    ),
    (
        "silent",
        "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[restart]\nwhen = \"on-failure\"\nmax_restarts = 1\nbackoff = \"100ms\"\n\
         [liveness]\nhttp = \"/live\"\ninterval = \"1s\"\nfailures = 1\nunhealthy_timeout = \"0\"\n",
    ),
    (
        "unwell",
        "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[liveness]\nhttp = \"/live\"\ninterval = \"1s\"\nfailures = 1\nthen = \"nothing\"\n",
    ),
    (
        "well",
        "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\", \"{socket}\"]\n[liveness]\nhttp = \"/health\"\ninterval = \"1s\"\nfailures = 1\nunhealthy_timeout = \"0\"\n",
    ),
    (
        "watchdog",
        "[worker]\nbinary = \"w\"\ncommand = [\"{binary}\"]\n[network]\nmode = \"none\"\n[readiness]\nnotify = true\n\
         [liveness]\nwatchdog = true\ninterval = \"1s\"\nunhealthy_timeout = \"0\"\n",
    ),
];

pub(super) async fn start(hive: &Hive, name: &str, act: &str, policy: &str) -> WorkerView {
    hive.spawn_with(SpawnParams { wait: WaitFor::Started, ..params(name, act, policy) }).await.unwrap()
}

fn is_down(view: &WorkerView) -> bool {
    view.state == WorkerState::Restarting
}

#[tokio::test]
async fn a_worker_that_fails_is_started_again_with_its_name_port_and_history() {
    let hive = Hive::with(1, "");
    let view = hive.spawn("w", "crash-once", "again").await.unwrap();
    assert_eq!((view.state, view.restarts, view.verdict), (WorkerState::Ready, 1, None));
    let asked: Vec<(Life, Option<u16>)> = hive.seen.asked.lock().unwrap().iter().map(|r| (r.life, r.port)).collect();
    assert_eq!(asked, [(Life::First, view.port), (Life::Again, view.port)]);
    let lives = hive.spawner.explain(&id("w")).await.unwrap().lives;
    assert_eq!(lives.iter().map(|l| l.verdict.verdict.clone()).collect::<Vec<_>>(), [Verdict::Exited { code: 3 }]);
    assert!(lives[0].started_at.is_some() && lives[0].ready_at.is_none());
    assert_eq!(answered(ask(view.port.unwrap())).await, b"hello", "its port leads to the new life");
    hive.stop("w", 0).await;
    hive.until_no_init_is_left().await;
}

#[tokio::test]
async fn it_is_given_up_after_its_last_try_with_its_last_verdict_and_every_end_is_told() {
    let hive = Hive::with(1, "");
    start(&hive, "w", "crash", "again").await;
    let view = hive.until("w", WorkerView::has_ended).await;
    assert_eq!((view.state, view.restarts), (WorkerState::Failed, 2));
    let verdict = view.verdict.unwrap();
    assert_eq!(verdict.verdict, Verdict::Exited { code: 3 });
    assert!(verdict.message.ends_with("it was given up after 2 restarts in a row"), "{}", verdict.message);
    assert_eq!(hive.spawner.explain(&id("w")).await.unwrap().lives.len(), 3);
    let mut feed = Feed::new(Arc::clone(hive.spawner.events().unwrap()), Some(0), Filter { worker_id: Some("w".into()), kind: None });
    let mut told = vec![];
    while feed.is_behind() {
        told.extend(feed.next().await.iter().filter(|e| e.kind != EventKind::Lease).map(|e| match e.kind {
            EventKind::Verdict => "verdict".to_owned(),
            _ => e.data["state"].as_str().unwrap().to_owned(),
        }));
    }
    // An execution is told, too, and is no other state.
    told.dedup();
    let life = ["starting", "verdict", "restarting"];
    let last = ["starting", "verdict", "failed"];
    assert_eq!(told, [life, life, last].concat());
    let no_fork = forks::none().await;
    assert!(hive.spawner.find_available_port().is_ok(), "its port is free");
    drop(no_fork);
}

#[tokio::test]
async fn which_ends_are_followed_by_another_life_is_the_policys() {
    let hive = Hive::start();
    for (name, act, policy, restarts, state) in [
        ("done", "done", "again", 0, WorkerState::Stopped),
        ("never", "crash", "unix", 0, WorkerState::Failed),
        ("always", "done", "always", 1, WorkerState::Failed),
    ] {
        start(&hive, name, act, policy).await;
        let view = hive.until(name, WorkerView::has_ended).await;
        assert_eq!((view.restarts, view.state), (restarts, state), "{name}: {:?}", view.verdict);
    }
}

#[tokio::test]
async fn what_never_ran_fails_its_start_at_once() {
    let hive = Hive::start();
    for act in ["setup-fails", "exec-fails", "launcher-setup-fails", "vanish-early"] {
        hive.spawn(act, act, "slowly").await.unwrap_err();
        let view = hive.spawner.status(&id(act)).await.unwrap();
        assert_eq!((view.state, view.restarts), (WorkerState::Failed, 0), "{act}");
    }
}

#[tokio::test]
async fn a_stop_between_two_lives_is_the_end_at_once_and_leaves_nothing() {
    let hive = Hive::with(1, "");
    start(&hive, "w", "crash", "slowly").await;
    let down = hive.until("w", is_down).await;
    assert_eq!((down.pid, down.init_pid, down.cgroup.path, down.restarts), (None, None, None, 0));
    assert_eq!(down.verdict.unwrap().verdict, Verdict::Exited { code: 3 });
    let asked = Instant::now();
    let (first, second) = tokio::join!(hive.stop("w", 5000), hive.stop("w", 0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    for view in [first, second] {
        assert_eq!(view.state, WorkerState::Stopped);
        assert!(matches!(
            view.verdict.unwrap().verdict,
            Verdict::Stopped { by: StoppedBy::Request, forced: false, code: None, signal: None }
        ));
    }
    let lives = hive.spawner.explain(&id("w")).await.unwrap().lives;
    assert_eq!(lives.iter().map(|l| l.verdict.verdict.clone()).collect::<Vec<_>>(), [Verdict::Exited { code: 3 }]);
    hive.until_no_init_is_left().await;
    let no_fork = forks::none().await;
    assert!(hive.spawner.find_available_port().is_ok(), "its port is free");
    drop(no_fork);
    assert_eq!(hive.seen.asked.lock().unwrap().len(), 1, "nothing was started for it any more");
    hive.spawner.delete(&id("w")).await.unwrap();
    start(&hive, "w", "crash", "slowly").await;
    hive.until("w", is_down).await;
    assert_eq!(hive.spawner.delete(&id("w")).await.unwrap().state, WorkerState::Stopped);
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn between_two_lives_there_is_nothing_to_change_to_freeze_to_signal_or_to_wait_for() {
    let hive = Hive::start();
    start(&hive, "w", "crash", "slowly").await;
    hive.until("w", is_down).await;
    let limits = [(LimitKey::PidsMax, LimitValue::Count(7))].into();
    let (w, spawner) = (id("w"), &hive.spawner);
    for refused in [
        spawner.update(&w, limits, BelowUse::Refuse).await,
        spawner.freeze(&w).await,
        spawner.thaw(&w).await,
        spawner.signal(&w, 9).await,
        spawner.verify(&w).await,
    ] {
        assert_eq!(refused.unwrap_err().kind, ErrorKind::NotAllowedNow);
    }
    for until in [WaitFor::Started, WaitFor::Ready, WaitFor::Exit] {
        let late = spawner.wait(&w, until, Some(Duration::from_millis(50))).await;
        assert_eq!(late.unwrap_err().kind, ErrorKind::Timeout, "{until:?}");
    }
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_connection_between_two_lives_waits_and_is_served_by_the_next() {
    let hive = Hive::start();
    let port = start(&hive, "w", "crash-once", "soon").await.port.unwrap();
    hive.until("w", is_down).await;
    let asked = ask(port);
    assert_eq!(answered(asked).await, b"hello");
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().restarts, 1);
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_gpu_is_nobody_elses_between_two_lives() {
    let hive = Hive::with(4, "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nname = \"G\"\nmemory = \"1GiB\"\nnodes = [\"/dev/full\"]\n");
    start(&hive, "w", "crash", "slow-gpu").await;
    hive.until("w", is_down).await;
    assert_eq!(hive.spawn("x", "idle", "slow-gpu").await.unwrap_err().kind, ErrorKind::DeviceBusy);
    hive.stop("w", 0).await;
    assert_eq!(hive.spawn("x", "idle", "slow-gpu").await.unwrap().devices, ["GPU-0"]);
    hive.stop("x", 0).await;
}

#[tokio::test]
async fn limits_that_were_changed_are_the_next_lifes_too() {
    let hive = Hive::start();
    hive.spawn("w", "idle", "roomy").await.unwrap();
    hive.spawner.update(&id("w"), [(LimitKey::PidsMax, LimitValue::Count(7))].into(), BelowUse::Refuse).await.unwrap();
    hive.spawner.signal(&id("w"), 9).await.unwrap();
    let view = hive.until("w", |v| v.restarts == 1 && v.state == WorkerState::Ready).await;
    assert_eq!(view.limits.get(&LimitKey::PidsMax), Some(&LimitValue::Count(7)));
    assert_eq!(hive.seen.asked.lock().unwrap()[1].limits, [(LimitKey::PidsMax, LimitValue::Count(7))].into());
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_try_that_is_refused_for_good_ends_it_and_one_that_fails_counts() {
    let hive = Hive::start();
    for (act, ending, lives) in
        [("crash-then-refused", "it is not started again: no", 1), ("crash-then-busy", "it was given up after 2 restarts in a row", 3)]
    {
        start(&hive, act, act, "again").await;
        let view = hive.until(act, WorkerView::has_ended).await;
        assert_eq!((view.state, view.restarts), (WorkerState::Failed, 0), "{act}: no other life began");
        assert!(view.verdict.as_ref().unwrap().message.ends_with(ending), "{act}: {:?}", view.verdict);
        assert_eq!(hive.spawner.explain(&id(act)).await.unwrap().lives.len(), lives, "{act}");
    }
}

#[tokio::test]
async fn a_draining_hive_starts_nothing_again() {
    let hive = Hive::start();
    start(&hive, "w", "crash", "soon").await;
    hive.until("w", is_down).await;
    hive.spawner.drain();
    let view = hive.until("w", WorkerView::has_ended).await;
    assert_eq!((view.state, view.restarts), (WorkerState::Failed, 0));
    assert!(view.verdict.unwrap().message.contains("it is not started again"), "why is said");
}

#[tokio::test]
async fn a_shutdown_ends_what_is_between_two_lives() {
    let hive = Hive::start();
    start(&hive, "w", "crash", "slowly").await;
    hive.until("w", is_down).await;
    hive.spawner.shutdown().await;
    let view = hive.spawner.status(&id("w")).await.unwrap();
    assert!(matches!(view.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Shutdown, .. }));
}
