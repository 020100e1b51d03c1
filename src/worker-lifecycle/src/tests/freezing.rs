//! Standing still by request, and going on.

use std::time::Duration;

use rbee_hive_sandbox::{StoppedBy, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::hive::{Hive, SOON, eventually, id};
use crate::{ErrorKind, WorkerState};

/// Sends a line and reads it back, for as long as it takes.
pub(super) fn ask(port: u16) -> tokio::task::JoinHandle<Vec<u8>> {
    tokio::spawn(async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = vec![];
        stream.read_to_end(&mut heard).await.unwrap();
        heard
    })
}

pub(super) async fn answered(asked: tokio::task::JoinHandle<Vec<u8>>) -> Vec<u8> {
    tokio::time::timeout(SOON, asked).await.expect("no answer").unwrap()
}

#[tokio::test]
async fn a_frozen_worker_takes_no_connection_and_the_thawed_one_serves_those_that_waited() {
    let hive = Hive::start();
    let port = hive.spawn("w", "serve", "unix").await.unwrap().port.unwrap();
    let view = hive.spawner.freeze(&id("w")).await.unwrap();
    assert_eq!(view.state, WorkerState::Frozen);
    assert_eq!(hive.spawner.freeze(&id("w")).await.unwrap().state, WorkerState::Frozen, "it is so already");
    let asked = ask(port);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!asked.is_finished(), "a frozen worker answered");
    assert_eq!(hive.spawner.registry().handle("w").unwrap().connections(), 0, "it waits in the backlog");
    let view = hive.spawner.thaw(&id("w")).await.unwrap();
    assert_eq!(view.state, WorkerState::Ready);
    assert_eq!(answered(asked).await, b"hello");
    assert_eq!(hive.spawner.thaw(&id("w")).await.unwrap().state, WorkerState::Ready, "it is so already");
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_frozen_worker_is_stopped_at_once_and_one_that_dies_so_has_its_own_verdict() {
    let hive = Hive::start();
    for name in ["stopped", "dies"] {
        hive.spawn(name, "serve", "unix").await.unwrap();
        hive.spawner.freeze(&id(name)).await.unwrap();
    }
    let view = hive.stop("stopped", 10_000).await;
    assert_eq!(view.state, WorkerState::Stopped);
    assert!(matches!(view.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Request, .. }));
    hive.spawner.signal(&id("dies"), 9).await.unwrap();
    let view = hive.until("dies", crate::WorkerView::has_ended).await;
    assert_eq!(view.verdict.unwrap().verdict, Verdict::Signaled { signal: 9, core_dumped: false });
    let error = hive.spawner.thaw(&id("dies")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotAllowedNow);
}

#[tokio::test]
async fn what_does_not_freeze_is_told_and_stays_ready() {
    let hive = Hive::start();
    for (act, kind) in [("unfreezable", ErrorKind::Timeout), ("no-freezer", ErrorKind::NotEnforceable)] {
        hive.spawn(act, act, "bare").await.unwrap();
        let error = hive.spawner.freeze(&id(act)).await.unwrap_err();
        assert!(error.kind == kind && error.hint.is_some(), "{error:?}");
        assert_eq!(hive.spawner.status(&id(act)).await.unwrap().state, WorkerState::Ready, "{act}");
        hive.stop(act, 0).await;
    }
}

#[tokio::test]
async fn what_is_starting_is_not_frozen() {
    let hive = Hive::start();
    let params = crate::SpawnParams { wait: crate::WaitFor::Started, ..super::hive::params("w", "idle", "unix") };
    hive.spawn_with(params).await.unwrap();
    for error in [hive.spawner.freeze(&id("w")).await.unwrap_err(), hive.spawner.thaw(&id("w")).await.unwrap_err()] {
        assert_eq!(error.kind, ErrorKind::NotAllowedNow);
    }
    hive.stop("w", 0).await;
    eventually("it is not over", || hive.spawner.registry().handle("w").unwrap().view().has_ended()).await;
}
