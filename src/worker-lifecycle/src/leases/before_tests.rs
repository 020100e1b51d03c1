//! One hive's leases after another's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rbee_hive_devices::{DeviceSpec, GpuState, Holder, Inventory, Known, LeaseRequest, Observation, Proof, Terms as Bounds};
use rbee_hive_policy::WorkerId;
use serde_json::json;

use super::{LeaseLife, Leases, Outcome, refused};
use crate::ErrorKind;

const SOON: Duration = Duration::from_secs(20);

/// Leases of three GPUs, watched, with their file in `directory`.
fn leases(directory: &Path) -> Arc<Leases> {
    let gpu = |n: u32| format!("[[gpu]]\nindex = {n}\nuuid = \"GPU-a{n:07x}\"\nvendor = \"nvidia\"\nmemory = \"8GiB\"\n");
    let host = Inventory::from_simulation(&(0..3).map(gpu).collect::<String>(), "d.toml").unwrap();
    let leases = Leases::open(host, Arc::default(), Some(Arc::new(std::fs::File::open(directory).unwrap().into())));
    leases.watch();
    leases
}

fn ask(leases: &Arc<Leases>, worker: &str, device: serde_json::Value) -> Result<String, crate::LifecycleError> {
    let spec = DeviceSpec::parse(&device).unwrap();
    let request = LeaseRequest { holder: Holder::Worker(worker.into()), spec, terms: Bounds::unbounded() };
    match leases.ask(request) {
        Ok(Outcome::Granted(lease)) => Ok(lease.id),
        Ok(Outcome::Queued(..)) => panic!("it waits"),
        Err(error) => Err(refused(&error)),
    }
}

fn state(leases: &Leases, gpu: usize) -> (GpuState, Option<String>) {
    let devices = leases.topology(&Observation::default()).devices;
    let gpu = devices.iter().filter(|d| d.kind == "gpu").nth(gpu).unwrap();
    (gpu.state.unwrap(), gpu.state_reason.clone())
}

/// Until the file says this.
async fn written(directory: &Path, what: &str) {
    let there = || std::fs::read_to_string(directory.join("leases.json")).is_ok_and(|text| text.contains(what));
    tokio::time::timeout(SOON, async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what} is not written down"));
}

#[tokio::test]
async fn what_workers_held_is_awaited_and_what_was_out_of_use_is_so_still() {
    let directory = tempfile::tempdir().unwrap();
    let before = leases(directory.path());
    assert_eq!(before.known_before(), Some(BTreeMap::new()), "the watch begins with nothing");
    let held = ask(&before, "w", json!(0)).unwrap();
    ask(&before, "v", json!(1)).unwrap();
    before.release_worker(&WorkerId::parse("v").unwrap());
    before.leaked(("lease:2", 1), "5 bytes are in use");
    before.quarantine(2, "it does not answer");
    let of_w = Known { idle: Some(3), former: [("w".to_owned(), [7].into())].into(), ..Known::default() };
    let of_v = Known { leaked: [("lease:2".to_owned(), Some("v".to_owned()))].into(), ..Known::default() };
    before.keep_known([(0, of_w.clone()), (1, of_v.clone()), (2, Known { drained: true, ..Known::default() })].into());
    written(directory.path(), "\"drained\":true").await;

    let again = leases(directory.path());
    assert_eq!(state(&again, 0).0, GpuState::Releasing);
    assert_eq!(state(&again, 1), (GpuState::VramLeaked, Some("5 bytes are in use".into())));
    assert_eq!(state(&again, 2), (GpuState::Quarantined, Some("it does not answer".into())));
    assert_eq!(ask(&again, "x", json!("auto")).unwrap_err().kind, ErrorKind::DeviceBusy);
    let awaited = again.awaited(&BTreeMap::new(), Duration::ZERO);
    assert_eq!(awaited[&0][&held].worker.as_deref(), Some("w"));
    let known = again.known_before().unwrap();
    assert_eq!((&known[&0], &known[&1], known[&2].drained), (&of_w, &of_v, true));
    again.back((&held, 0), Duration::ZERO, Proof::Measured);
    assert_eq!(ask(&again, "x", json!(0)).unwrap(), "lease:3", "no number comes twice");
}

#[tokio::test]
async fn a_worker_on_somebodys_lease_is_awaited_and_the_holder_has_it_still() {
    let directory = tempfile::tempdir().unwrap();
    let before = leases(directory.path());
    let lasting = before.acquire(("engine", DeviceSpec::Gpus(vec![0])), LeaseLife::default()).await.unwrap();
    let bound = LeaseLife { ttl: None, connection: Some(Box::pin(std::future::pending())) };
    before.acquire(("bound", DeviceSpec::Gpus(vec![1])), bound).await.unwrap();
    before.use_lease(&lasting.lease.lease_id, &WorkerId::parse("w").unwrap()).unwrap();
    written(directory.path(), "\"used_by\":\"w\"").await;

    let again = leases(directory.path());
    assert_eq!((state(&again, 0).0, state(&again, 1).0, state(&again, 2).0), (GpuState::Releasing, GpuState::Releasing, GpuState::Free));
    again.back(("lease:1", 0), Duration::ZERO, Proof::Measured);
    again.back(("lease:2", 1), Duration::ZERO, Proof::Measured);
    assert_eq!((state(&again, 0).0, state(&again, 1).0), (GpuState::Leased, GpuState::Free));
    let held = again.list_all();
    assert_eq!((held.len(), held[0].lease.holder.as_str(), held[0].lease.used_by.as_deref()), (1, "engine", None));
}

#[tokio::test]
async fn while_it_can_t_be_read_who_had_which_gpu_nobody_gets_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("leases.json");
    std::fs::write(&file, "{\"version\":7}").unwrap();
    let leases = leases(directory.path());
    let error = ask(&leases, "w", json!("auto")).unwrap_err();
    assert!(error.kind == ErrorKind::DeviceBusy && error.message.contains("hive/leases.json"), "{error}");
    assert!(error.hint.unwrap().contains("make the file readable"));
    assert_eq!(state(&leases, 0).0, GpuState::Quarantined);
    ask(&leases, "c", json!("cpu")).unwrap();
    assert!(leases.acquire(("engine", DeviceSpec::AnyCpu), LeaseLife::default()).await.is_err(), "it could not be written down");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"version\":7}", "and the file is as it was");
    std::fs::remove_file(&file).unwrap();
    tokio::time::timeout(SOON, async {
        while ask(&leases, "w", json!(0)).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it is not given out again");
}
