//! From a request to a worker that answers, or to the reason why not.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rbee_hive_narration::{JobEnd, Next};
use rbee_hive_sandbox::Verdict;

use super::fake_init::NOTIFY_NOW;
use super::forks;
use super::hive::{Hive, eventually, id, params};
use crate::{ErrorKind, SpawnParams, WaitFor, WorkerState, WorkerStatus};

#[tokio::test]
async fn a_worker_is_ready_when_it_answers_and_its_start_is_told() {
    let hive = Hive::start();
    hive.streams.create("job");
    let view = hive.spawn_with(SpawnParams { job_id: Some("job".into()), ..params("w", "serve", "host") }).await.unwrap();
    assert_eq!((view.state, view.verdict), (WorkerState::Ready, None));
    assert!(view.pid.is_some() && view.started_at.is_some() && view.ready_at >= view.started_at);
    assert_eq!(view.endpoint, view.port.map(|p| format!("http://127.0.0.1:{p}")));
    let entry = hive.spawner.registry().get("w").unwrap();
    assert_eq!((entry.status, entry.pid, entry.port), (WorkerStatus::Ready, view.pid, view.port));
    let processes = hive.spawner.processes(Some(&id("w"))).await.unwrap();
    assert_eq!(processes.iter().map(|p| (Some(p.pid), p.name.as_str())).collect::<Vec<_>>(), [(view.pid, "sleep")]);
    hive.streams.finish("job", JobEnd::Done);
    let told = lines(&hive, "job");
    let actions = ["spawn_start", "spawn_port", "spawn_binary", "spawn_process", "spawn_registered", "spawn_waiting", "spawn_complete"];
    assert_eq!(told.len(), actions.len(), "{told:#?}");
    for (line, action) in told.iter().zip(actions) {
        assert!(line.starts_with(&format!("[worker-lc ] {action:<15}: ")), "{line}");
    }
    hive.stop("w", 0).await;
}

/// The lines of a finished job.
fn lines(hive: &Hive, job: &str) -> Vec<String> {
    let mut lines = vec![];
    while let Next::Line(line) = hive.streams.next(job, lines.len()) {
        lines.push(line.to_string());
    }
    lines
}

#[tokio::test]
async fn a_worker_that_dies_while_starting_fails_its_start_at_once_with_verdict_and_log() {
    let hive = Hive::start();
    let asked = Instant::now();
    let error = hive.spawn("w", "crash", "unix").await.unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert_eq!(error.kind, ErrorKind::StartFailed);
    assert_eq!(error.verdict.unwrap().verdict, Verdict::Exited { code: 3 });
    assert_eq!(error.log_tail, ["about to fail"]);
    let view = hive.spawner.status(&id("w")).await.unwrap();
    assert_eq!((view.state, view.pid, view.resources.cpu_usage_usec), (WorkerState::Failed, None, Some(7)));
    assert!(matches!(hive.spawner.registry().get("w").unwrap().status, WorkerStatus::Failed { error } if error.contains("status 3")));
    assert_eq!(hive.spawn("w", "serve", "unix").await.unwrap_err().kind, ErrorKind::AlreadyExists, "an ended worker keeps its name");
}

#[tokio::test]
async fn a_failed_start_stays_listed_and_gives_its_port_back() {
    let hive = Hive::with(1, "");
    // None of these starts a process.
    let _no_fork = forks::none().await;
    for (act, kind, errno) in [
        ("setup-fails", ErrorKind::SetupFailed, Some(1)),
        ("exec-fails", ErrorKind::ExecFailed, Some(13)),
        ("launcher-setup-fails", ErrorKind::SetupFailed, Some(13)),
        ("vanish-early", ErrorKind::StartFailed, None),
    ] {
        let error = hive.spawn(act, act, "unix").await.unwrap_err();
        assert_eq!((error.kind, error.errno), (kind, errno), "{act}");
        assert_eq!(hive.spawner.status(&id(act)).await.unwrap().state, WorkerState::Failed, "{act}");
    }
    assert!(hive.spawner.find_available_port().is_ok(), "the one port is free again");
}

#[tokio::test]
async fn what_is_refused_leaves_no_entry_no_port_and_no_lease() {
    let hive = Hive::with(1, GPU);
    let error = hive.spawn("w", "refused", "private").await.unwrap_err();
    assert_eq!((error.kind, error.tried.as_slice()), (ErrorKind::ModelNotFound, ["/here".to_owned()].as_slice()));
    assert_eq!(hive.spawn("w", "serve", "no-such-policy").await.unwrap_err().kind, ErrorKind::UnknownPolicy);
    assert!(hive.spawner.registry().is_empty());
    let no_fork = forks::none().await;
    assert!(hive.spawner.find_available_port().is_ok());
    drop(no_fork);
    assert_eq!(hive.spawner.stop(&id("w"), None).await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(hive.spawn("w", "done", "private").await.is_err());
    let view = hive.spawner.status(&id("w")).await.unwrap();
    assert_eq!(view.devices, ["GPU-0"], "the lease was free");
}

const GPU: &str = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nname = \"G\"\nmemory = \"1GiB\"\nnodes = [\"/dev/full\"]\n";

#[tokio::test]
async fn a_leased_gpu_is_one_workers_until_it_has_ended() {
    let hive = Hive::with(4, GPU);
    let started = |name| SpawnParams { wait: WaitFor::Started, ..params(name, "idle", "private") };
    assert_eq!(hive.spawn_with(started("a")).await.unwrap().devices, ["GPU-0"]);
    let busy = hive.spawn_with(started("b")).await.unwrap_err();
    assert_eq!(busy.kind, ErrorKind::DeviceBusy);
    assert!(busy.message.contains("held by worker a"), "{}", busy.message);
    hive.stop("a", 0).await;
    assert_eq!(hive.spawn_with(started("b")).await.unwrap().devices, ["GPU-0"]);
    hive.stop("b", 0).await;
}

#[tokio::test]
async fn started_is_enough_where_it_is_asked_for_whatever_follows() {
    let hive = Hive::start();
    for act in ["idle", "crash", "done"] {
        let view = hive.spawn_with(SpawnParams { wait: WaitFor::Started, ..params(act, act, "unix") }).await.unwrap();
        assert!(view.started_at.is_some(), "{act}");
    }
    let ended = hive.spawner.wait(&id("crash"), WaitFor::Exit, None).await.unwrap();
    assert_eq!((ended.state, ended.verdict.unwrap().verdict), (WorkerState::Failed, Verdict::Exited { code: 3 }));
    assert_eq!(hive.spawner.wait(&id("done"), WaitFor::Exit, None).await.unwrap().state, WorkerState::Stopped);
    assert_eq!(hive.spawner.wait(&id("done"), WaitFor::Ready, None).await.unwrap_err().kind, ErrorKind::StartFailed);
    let late = hive.spawner.wait(&id("idle"), WaitFor::Ready, Some(Duration::from_millis(20))).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::Timeout);
    hive.stop("idle", 0).await;
}

#[tokio::test]
async fn a_program_without_readiness_that_ends_at_once_was_ready_before() {
    let hive = Hive::start();
    for n in 0..20 {
        let view = hive.spawn(&format!("w{n}"), "done", "bare").await.unwrap();
        assert!(view.ready_at.is_some() && view.port.is_none() && view.endpoint.is_none());
        assert_eq!(view.pid, None, "a number that could not be looked up is not told");
    }
}

#[tokio::test]
async fn a_worker_that_never_answers_is_ended_with_what_the_last_probe_saw() {
    let hive = Hive::start();
    let error = hive.spawn("w", "idle", "impatient").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::StartTimeout);
    let Verdict::StartTimeout { last_probe: Some(seen) } = error.verdict.unwrap().verdict else { panic!("no last probe") };
    assert!(seen.contains("refused"), "{seen}");
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().state, WorkerState::Failed);
    hive.until_no_init_is_left().await;
}

#[tokio::test]
async fn a_stranger_on_the_workers_port_never_makes_it_ready() {
    let hive = Hive::start();
    let view = hive.spawn_with(SpawnParams { wait: WaitFor::Started, ..params("w", "serve", "stranger") }).await.unwrap();
    // It does answer on that port: it is only not the worker's uid that listens there.
    let answer = std::net::TcpStream::connect(("127.0.0.1", view.port.unwrap()));
    assert!(answer.is_ok());
    let wait = hive.spawner.wait(&id("w"), WaitFor::Ready, Some(Duration::from_millis(500))).await;
    assert_eq!(wait.unwrap_err().kind, ErrorKind::Timeout);
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_worker_is_ready_when_it_says_so_by_sd_notify() {
    let hive = Hive::start();
    hive.spawn_with(SpawnParams { wait: WaitFor::Started, ..params("w", "idle", "notify") }).await.unwrap();
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().state, WorkerState::Starting);
    hive.spawner.signal(&id("w"), NOTIFY_NOW).await.unwrap();
    hive.until("w", |v| v.state == WorkerState::Ready).await;
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_mid_spawn_loses_no_worker() {
    let hive = Hive::start();
    hive.seen.close_gate();
    let spawner = std::sync::Arc::clone(&hive.spawner);
    let client = tokio::spawn(async move { spawner.spawn(params("w", "serve", "unix")).await });
    eventually("the launcher is not asked", || hive.seen.spawns.load(Ordering::SeqCst) == 1).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    hive.seen.open_gate();
    hive.until("w", |v| v.state == WorkerState::Ready).await;
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn without_a_launcher_nothing_starts_and_what_runs_can_be_stopped() {
    let hive = Hive::start();
    hive.spawn("w", "serve", "unix").await.unwrap();
    assert_eq!(hive.spawn("x", "serve", "launcher-dies").await.unwrap_err().kind, ErrorKind::LauncherGone);
    assert!(hive.launcher.is_gone());
    assert_eq!(hive.spawn("x", "serve", "unix").await.unwrap_err().kind, ErrorKind::LauncherGone);
    assert_eq!(hive.spawner.registry().list().len(), 1);
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().state, WorkerState::Ready);
    let stopped = hive.stop("w", 0).await;
    assert_eq!(stopped.state, WorkerState::Stopped);
    assert!(stopped.drift.iter().any(|d| d.contains("launcher is gone")), "{:?}", stopped.drift);
}

#[tokio::test]
async fn the_seeds_call_starts_under_the_default_policy() {
    let hive = Hive::start();
    let started = hive.spawner.spawn_worker("job", "w", "done", "cpu").await;
    assert_eq!(started.unwrap_err().kind, ErrorKind::StartFailed, "it ended before it answered");
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().policy, "default");
    let invalid = hive.spawner.spawn_worker("job", "../w", "m", "cpu").await.unwrap_err();
    assert_eq!(invalid.kind, ErrorKind::InvalidParams);
}
