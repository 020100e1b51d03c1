//! Leases without workers, and what is told of them.

use std::time::Duration;

use rbee_hive_devices::DeviceSpec;

use super::*;
use crate::LifecycleError;

fn host() -> Inventory {
    let gpu = |n: u32| format!("[[gpu]]\nindex = {n}\nuuid = \"GPU-a{n:07x}\"\nvendor = \"nvidia\"\nmemory = \"8GiB\"\n");
    Inventory::from_simulation(&(0..2).map(gpu).collect::<String>(), "d.toml").unwrap()
}

fn leases(directory: Option<&std::path::Path>) -> Arc<Leases> {
    let directory = directory.map(|d| Arc::new(std::fs::File::open(d).unwrap().into()));
    Leases::open(host(), Arc::default(), directory)
}

fn spec(value: &Value) -> DeviceSpec {
    DeviceSpec::parse(value).unwrap()
}

async fn take(leases: &Arc<Leases>, value: Value, ttl: Option<Duration>) -> Result<ExternalLease, LifecycleError> {
    leases.acquire(("engine", spec(&value)), LeaseLife { ttl, connection: None }).await
}

fn worker(name: &str) -> LeaseRequest {
    LeaseRequest { holder: Holder::Worker(name.into()), spec: spec(&json!({"count": 2})), terms: Bounds::unbounded() }
}

fn id(name: &str) -> WorkerId {
    WorkerId::parse(name).unwrap()
}

async fn until_free(leases: &Leases) {
    while !leases.list_all().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_lease_lives_until_it_is_given_back_and_no_longer_than_its_time() {
    let leases = leases(None);
    let first = take(&leases, json!(0), None).await.unwrap();
    assert_eq!((first.lease.lease_id.as_str(), first.expires_at.as_deref(), first.bound_to_connection), ("lease:1", None, false));
    assert_eq!(take(&leases, json!(0), None).await.unwrap_err().kind, ErrorKind::DeviceBusy);
    leases.give_back("lease:1").await.unwrap();
    assert_eq!(leases.give_back("lease:1").await.unwrap_err().kind, ErrorKind::NotFound);
    let short = take(&leases, json!(0), Some(Duration::from_millis(30))).await.unwrap();
    assert!(short.expires_at.is_some());
    tokio::time::timeout(Duration::from_secs(10), until_free(&leases)).await.expect("it is still there");
    for (ttl, name) in [(Some(Duration::ZERO), "e"), (Some(Duration::MAX), "e"), (None, ""), (None, "a\nb")] {
        let life = LeaseLife { ttl, connection: None };
        assert_eq!(leases.acquire((name, DeviceSpec::Auto), life).await.unwrap_err().kind, ErrorKind::InvalidParams, "{ttl:?} {name:?}");
    }
}

#[tokio::test]
async fn a_connection_is_the_life_of_its_lease() {
    let leases = leases(None);
    let (connection, ended) = oneshot::channel::<()>();
    let life = LeaseLife { ttl: None, connection: Some(Box::pin(async move { drop(ended.await) })) };
    assert!(leases.acquire(("engine", DeviceSpec::Auto), life).await.unwrap().bound_to_connection);
    assert_eq!(leases.list_all().len(), 1);
    drop(connection);
    tokio::time::timeout(Duration::from_secs(10), until_free(&leases)).await.expect("it is still there");
    let over = LeaseLife { ttl: None, connection: Some(Box::pin(async {})) };
    leases.acquire(("engine", DeviceSpec::Auto), over).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), until_free(&leases)).await.expect("its connection had ended before");
}

#[tokio::test]
async fn what_lasts_is_held_again_after_a_restart_and_what_was_bound_or_ran_out_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let before = leases(Some(directory.path()));
    take(&before, json!({"gpus": [1], "share": {"memory": "2GiB"}}), None).await.unwrap();
    take(&before, json!({"gpus": [1], "share": {"memory": "1GiB"}}), Some(Duration::from_millis(1))).await.unwrap();
    let bound = LeaseLife { ttl: None, connection: Some(Box::pin(std::future::pending())) };
    before.acquire(("bound", spec(&json!(0))), bound).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let again = leases(Some(directory.path()));
    let held = again.list_all();
    assert_eq!(held.iter().map(|l| (l.lease.lease_id.as_str(), l.lease.holder.as_str())).collect::<Vec<_>>(), [("lease:1", "engine")]);
    assert_eq!((held[0].lease.devices.as_slice(), held[0].lease.share), (["GPU-1".to_owned()].as_slice(), Some(Share::Memory(2 << 30))));
    assert_eq!(take(&again, json!(0), None).await.unwrap().lease.lease_id, "lease:4", "no number comes twice");
    again.give_back("lease:1").await.unwrap();
    assert_eq!(leases(Some(directory.path())).list_all().len(), 1);
}

#[tokio::test]
async fn who_waits_is_served_leaves_the_line_or_waits_in_vain() {
    let leases = leases(None);
    take(&leases, json!(0), None).await.unwrap();
    let patient = json!({"count": 2, "when_busy": "queue", "queue_timeout_ms": 20});
    let error = take(&leases, patient, None).await.unwrap_err();
    assert!(error.kind == ErrorKind::DeviceBusy && error.message.contains("waited 20 ms in line"), "{error}");
    let waiting = tokio::spawn({
        let leases = Arc::clone(&leases);
        async move { take(&leases, json!({"count": 2, "when_busy": "queue"}), None).await }
    });
    while lock(&leases.inside).table.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(leases.ask(worker("w")), Err(LeaseError::Busy(_))), "GPU-1 is kept");
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(lock(&leases.inside).table.waiting(), 0);
    leases.give_back("lease:1").await.unwrap();
    assert!(matches!(leases.ask(worker("w")), Ok(Outcome::Granted(_))));
}

#[tokio::test]
async fn what_happens_to_leases_is_told() {
    let leases = leases(None);
    let Ok(Outcome::Granted(lease)) = leases.ask(worker("w")) else { panic!("both are free") };
    let waiting = tokio::spawn({
        let leases = Arc::clone(&leases);
        async move { take(&leases, json!({"gpus": [0], "when_busy": "queue"}), None).await }
    });
    while lock(&leases.inside).table.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    leases.release_worker(&id("w"));
    waiting.await.unwrap().unwrap();
    let told = leases.events.after(0).await;
    let acts: Vec<_> = told.iter().map(|e| (e.data["act"].as_str().unwrap(), e.worker_id.as_deref())).collect();
    assert_eq!(acts, [("acquired", Some("w")), ("queued", None), ("released", Some("w")), ("acquired", None)]);
    assert_eq!((&told[2].data["lease_id"], &told[2].data["memory"]), (&json!(lease.id), &json!("not_measured")));
    assert!(told[1].data["why"].as_str().unwrap().contains("held by worker w"), "{:?}", told[1].data);
}

/// GPU-0 with a part of it, which is GPU-2, and GPU-1.
fn with_a_part() -> Arc<Leases> {
    let text = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n[[gpu.mig]]\ngpu_instance = 1\ncompute_instance = 0\n[[gpu]]\nindex = 1\nvendor = \"nvidia\"\n";
    Leases::open(Inventory::from_simulation(text, "d.toml").unwrap(), Arc::default(), None)
}

#[tokio::test]
async fn a_gpu_that_was_reset_was_so_with_its_parts() {
    let leases = with_a_part();
    leases.watch();
    leases.was_reset("GPU-0").unwrap();
    assert_eq!(leases.were_reset(), [0, 2].into());
    leases.was_reset("GPU-1").unwrap();
    assert_eq!(leases.were_reset(), [1].into());
}

#[tokio::test]
async fn who_has_a_part_is_expected_on_the_whole_gpu() {
    let leases = with_a_part();
    take(&leases, json!(2), None).await.unwrap();
    assert_eq!(leases.held().1, [0, 2].into());
}

#[tokio::test]
async fn who_leaves_the_line_in_the_moment_in_which_it_is_served_leaves_no_lease_behind() {
    let leases = leases(None);
    for turn in 0..3000 {
        leases.ask(worker("holder")).unwrap();
        let patient = LeaseRequest { spec: spec(&json!({"count": 2, "when_busy": "queue"})), ..worker("waits") };
        let Ok(Outcome::Queued(waiting, _)) = leases.ask(patient) else { panic!("both are held") };
        let (releasing, barrier) = (Arc::clone(&leases), Arc::new(std::sync::Barrier::new(2)));
        let begin = Arc::clone(&barrier);
        let release = std::thread::spawn(move || {
            begin.wait();
            releasing.release_worker(&id("holder"));
        });
        barrier.wait();
        drop(waiting);
        release.join().unwrap();
        assert_eq!(leases.list_all(), [], "turn {turn}");
    }
}
