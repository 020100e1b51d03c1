//! Starts that wait in line, and starts on somebody's lease.

use rbee_hive_devices::{DeviceSpec, WhenBusy};
use rbee_hive_sandbox::Verdict;

use super::hive::{Hive, id, params};
use crate::{ClientGone, ErrorKind, LeaseLife, SpawnParams, WaitFor, WorkerState};

const GPU: &str = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nname = \"G\"\nmemory = \"1GiB\"\nnodes = [\"/dev/full\"]\n";

fn patient(name: &str) -> SpawnParams {
    let device = DeviceSpec::Auto.when_busy(WhenBusy::Queue { timeout: None });
    SpawnParams { wait: WaitFor::Started, device, ..params(name, "idle", "private") }
}

/// A hive whose one GPU is an engine's, with the lease.
async fn taken() -> (Hive, String) {
    let hive = Hive::with(4, GPU);
    let lease = hive.spawner.lease_acquire("engine", DeviceSpec::Gpus(vec![0]), LeaseLife::default()).await.unwrap();
    (hive, lease.lease.lease_id)
}

async fn until_waiting(hive: &Hive, name: &str) {
    super::hive::eventually("it does not wait", || {
        hive.spawner.registry().handle(name).is_some_and(|h| h.view.borrow().state == WorkerState::Starting)
    })
    .await;
}

#[tokio::test]
async fn a_start_that_waits_is_listed_as_starting_and_goes_on_when_it_is_its_turn() {
    let (hive, lease) = taken().await;
    let (spawner, waiting) = (hive.spawner.clone(), patient("w"));
    let start = tokio::spawn(async move { spawner.spawn(waiting).await });
    until_waiting(&hive, "w").await;
    assert!(hive.spawner.status(&id("w")).await.unwrap().devices.is_empty());
    hive.spawner.lease_release(&lease).await.unwrap();
    assert_eq!(start.await.unwrap().unwrap().devices, ["GPU-0"]);
    hive.stop("w", 0).await;
    assert!(hive.spawner.leases().is_empty());
}

#[tokio::test]
async fn a_start_that_is_stopped_while_it_waits_ends_at_once_and_has_had_nothing() {
    let (hive, lease) = taken().await;
    let (spawner, waiting) = (hive.spawner.clone(), patient("w"));
    let start = tokio::spawn(async move { spawner.spawn(waiting).await });
    until_waiting(&hive, "w").await;
    let view = hive.stop("w", 10_000).await;
    assert!(matches!(view.verdict.unwrap().verdict, Verdict::Stopped { forced: false, .. }));
    assert_eq!(start.await.unwrap().unwrap_err().kind, ErrorKind::StartFailed);
    hive.spawner.lease_release(&lease).await.unwrap();
    assert!(hive.spawner.leases().is_empty(), "its place in line was given up");
}

#[tokio::test]
async fn a_start_that_waits_is_given_up_with_its_client() {
    let (hive, lease) = taken().await;
    let (here, gone) = ClientGone::pair();
    let (spawner, waiting) = (hive.spawner.clone(), SpawnParams { client: Some(gone), ..patient("w") });
    let start = tokio::spawn(async move { spawner.spawn(waiting).await });
    until_waiting(&hive, "w").await;
    drop(here);
    assert_eq!(start.await.unwrap().unwrap_err().kind, ErrorKind::DeviceBusy);
    assert!(hive.spawner.registry().is_empty(), "what is refused leaves no entry");
    hive.spawner.lease_release(&lease).await.unwrap();
    assert!(hive.spawner.leases().is_empty());
}

#[tokio::test]
async fn a_draining_hive_starts_nothing_that_waited() {
    let (hive, lease) = taken().await;
    let (spawner, waiting) = (hive.spawner.clone(), patient("w"));
    let start = tokio::spawn(async move { spawner.spawn(waiting).await });
    until_waiting(&hive, "w").await;
    hive.spawner.drain();
    hive.spawner.lease_release(&lease).await.unwrap();
    assert_eq!(start.await.unwrap().unwrap_err().kind, ErrorKind::Draining);
    assert!(hive.spawner.leases().is_empty() && hive.spawner.registry().is_empty());
    let late = hive.spawner.lease_acquire("engine", DeviceSpec::Auto, LeaseLife::default()).await;
    assert_eq!(late.unwrap_err().kind, ErrorKind::Draining);
}

#[tokio::test]
async fn a_worker_on_somebodys_lease_leaves_it_with_its_holder() {
    let (hive, lease) = taken().await;
    let on = |name: &str| SpawnParams { lease_id: Some(lease.clone()), wait: WaitFor::Started, ..params(name, "idle", "private") };
    assert_eq!(hive.spawn_with(on("w")).await.unwrap().devices, ["GPU-0"]);
    assert_eq!(hive.spawn_with(on("v")).await.unwrap_err().kind, ErrorKind::NotAllowedNow);
    let both = SpawnParams { device: DeviceSpec::Gpus(vec![0]), ..on("v") };
    assert_eq!(hive.spawn_with(both).await.unwrap_err().kind, ErrorKind::InvalidParams);
    let none = SpawnParams { lease_id: Some("lease:99".into()), ..on("v") };
    assert_eq!(hive.spawn_with(none).await.unwrap_err().kind, ErrorKind::NotFound);
    let no_gpus = SpawnParams { policy: "bare".into(), ..on("v") };
    assert_eq!(hive.spawn_with(no_gpus.clone()).await.unwrap_err().kind, ErrorKind::NotAllowedNow);
    hive.stop("w", 0).await;
    assert_eq!(hive.spawn_with(no_gpus).await.unwrap_err().kind, ErrorKind::PolicyViolation, "its policy must grant it by itself");
    let held = hive.spawner.leases();
    assert_eq!((held.len(), held[0].lease.holder.as_str(), held[0].lease.used_by.as_deref()), (1, "engine", None));
}

#[tokio::test]
async fn a_model_that_does_not_fit_on_somebodys_lease_is_refused() {
    let (hive, lease) = taken().await;
    let on = SpawnParams { lease_id: Some(lease.clone()), wait: WaitFor::Started, ..params("w", "idle", "large") };
    let error = hive.spawn_with(on).await.unwrap_err();
    assert!(error.kind == ErrorKind::NoSuchDevice && error.message.contains("12 GiB are needed"), "{error}");
    assert_eq!(hive.spawner.leases()[0].lease.used_by, None, "the use is given back");
}
