//! The way from the port that the hive holds to the worker inside.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fake_init::SERVE_NOW;
use super::forks;
use super::hive::{Hive, SOON, eventually, id, params};
use crate::{SpawnParams, WaitFor, WorkerState, WorkerStatus};

/// Sends `text`, says that there is no more, and reads what comes back.
async fn echo(port: u16, text: &[u8]) -> Vec<u8> {
    let talk = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut heard = vec![];
        stream.read_to_end(&mut heard).await.unwrap();
        heard
    };
    tokio::time::timeout(SOON, talk).await.expect("no answer")
}

#[tokio::test]
async fn a_client_reaches_a_worker_on_a_unix_socket_and_half_a_close_is_passed_on() {
    let hive = Hive::start();
    let port = hive.spawn("w", "serve", "unix").await.unwrap().port.unwrap();
    // The worker answers only once it has seen the client's end of writing.
    let text = vec![b'x'; 300_000];
    assert_eq!(echo(port, &text).await, text);
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_worker_with_open_connections_is_busy_and_its_end_ends_them() {
    let hive = Hive::start();
    let port = hive.spawn("w", "serve", "unix").await.unwrap().port.unwrap();
    let status = || hive.spawner.registry().get("w").unwrap().status;
    eventually("a probe's connection stays", || status() == WorkerStatus::Ready).await;
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    eventually("an open connection is not seen", || status() == WorkerStatus::Busy).await;
    assert_eq!(hive.spawner.registry().list_by_status(&WorkerStatus::Busy).len(), 1);
    let _no_fork = forks::none().await;
    hive.stop("w", 0).await;
    let mut rest = vec![];
    let ended = tokio::time::timeout(SOON, client.read_to_end(&mut rest)).await.expect("the connection outlives its worker");
    assert!(ended.is_err() || rest.is_empty());
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_client_that_comes_while_the_worker_starts_is_kept_until_it_serves() {
    let hive = Hive::start();
    let view = hive.spawn_with(SpawnParams { wait: WaitFor::Started, ..params("w", "idle", "unix") }).await.unwrap();
    let early = tokio::spawn(echo_owned(view.port.unwrap()));
    eventually("the client is not taken", || hive.spawner.registry().handle("w").unwrap().connections() == 1).await;
    // Time enough for a refusal.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!early.is_finished());
    hive.spawner.signal(&id("w"), SERVE_NOW).await.unwrap();
    assert_eq!(early.await.unwrap(), b"early");
    hive.until("w", |v| v.state == WorkerState::Ready).await;
    hive.stop("w", 0).await;
}

async fn echo_owned(port: u16) -> Vec<u8> {
    echo(port, b"early").await
}

/// Whether this test may make a network namespace.
fn namespaces() -> bool {
    let there = nix::unistd::geteuid().is_root()
        && std::thread::spawn(|| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok()).join().unwrap()
        && ["/sbin/ip", "/usr/sbin/ip", "/bin/ip"].iter().any(|p| std::path::Path::new(p).exists());
    if !there {
        println!("SKIPPED: needs root and ip(8) for a network namespace");
    }
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_is_the_hives_outside_and_the_workers_inside_its_own_namespace() {
    if !namespaces() {
        return;
    }
    let hive = Hive::start();
    // Ready by a probe of that very port: were it the hive's own, the probe would be forwarded for ever.
    let port = hive.spawn("w", "netns", "private").await.unwrap().port.unwrap();
    let before = hive.seen.batches.load(Ordering::SeqCst);
    let texts: Vec<String> = (0..64).map(|n| format!("client {n}")).collect();
    let answers = join_all(texts.iter().map(|t| echo(port, t.as_bytes()))).await;
    assert!(answers.iter().zip(&texts).all(|(a, t)| a == t.as_bytes()));
    let batches = hive.seen.batches.load(Ordering::SeqCst) - before;
    assert!((1..=8).contains(&batches), "64 connections took {batches} batches of 16");
    hive.stop("w", 0).await;
}
