//! The watch over fakes: what drivers would tell is turned by the test, everything else is the hive's own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbee_hive_devices::{GpuObservation, GpuProcess, Observation, Patience, Xid};
use rbee_hive_sandbox::{StoppedBy, Verdict};
use serde_json::{Value, json};

use super::DeviceWatch;
use crate::channel::lock;
use crate::tests::hive::{Hive, eventually, id, params};
use crate::{ErrorKind, EventKind, GpuMemoryView, WorkerState};

const GIB: u64 = 1 << 30;
const GPU: &str = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nmemory = \"80GiB\"\n";

/// What the driver tells now, and how often it was asked.
#[derive(Clone)]
struct Driver(Arc<Mutex<GpuObservation>>, Arc<AtomicUsize>);

impl Driver {
    /// A GPU that is idle, and a hive that looks at it all the time.
    fn hive() -> (Hive, Self) {
        Self::hive_with(Duration::from_millis(100))
    }

    /// The same, where memory may be away for longer.
    fn hive_with(memory_back: Duration) -> (Hive, Self) {
        let idle = GpuObservation { silent: None, memory_used_bytes: Some(0), processes: Some(vec![]), xids: vec![] };
        let driver = Self(Arc::new(Mutex::new(idle)), Arc::default());
        let told = driver.clone();
        let watch = DeviceWatch {
            observe: Arc::new(move || {
                told.1.fetch_add(1, Ordering::SeqCst);
                Observation { gpus: BTreeMap::from([(0, lock(&told.0).clone())]) }
            }),
            interval: Duration::from_millis(5),
            patience: Patience { memory_back, over_limit: Duration::from_millis(100) },
        };
        (Hive::watched(GPU, watch), driver)
    }

    fn tells(&self, change: impl FnOnce(&mut GpuObservation)) {
        change(&mut lock(&self.0));
    }

    /// Until what it tells now has been seen so many times, and what follows from that is done.
    async fn seen(&self, times: usize) {
        let before = self.1.load(Ordering::SeqCst);
        // The next look begins when the last one has come to its end.
        eventually("nobody looks", || self.1.load(Ordering::SeqCst) > before + times).await;
    }

    fn uses(&self, used: u64, processes: &[(i32, u64)]) {
        let processes = processes.iter().map(|(pid, bytes)| GpuProcess { pid: *pid, memory_bytes: Some(*bytes) }).collect();
        self.tells(|gpu| (gpu.memory_used_bytes, gpu.processes) = (Some(used), Some(processes)));
    }
}

/// The data of events of one kind about GPU-0, each with whose it is.
async fn told(hive: &Hive, kind: EventKind) -> Vec<(Option<String>, Value)> {
    let events = hive.spawner.events().unwrap().after(0).await;
    events.iter().filter(|e| e.kind == kind).map(|e| (e.worker_id.clone(), e.data.clone())).collect()
}

async fn until_told(hive: &Hive, kind: EventKind, act: &str) -> (Option<String>, Value) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        // The hub's first events are those of the worker's start.
        if hive.spawner.events().unwrap().last() > 0
            && let Some(event) = told(hive, kind).await.into_iter().find(|(_, data)| data["act"] == act)
        {
            return event;
        }
        assert!(tokio::time::Instant::now() < deadline, "{act} is not told");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn state(hive: &Hive) -> Value {
    let devices = hive.spawner.devices();
    serde_json::to_value(devices.iter().find(|d| d.id == "GPU-0").unwrap()).unwrap()
}

#[tokio::test]
async fn a_gpu_is_free_again_when_its_memory_is_back_and_out_of_use_when_it_stays_away() {
    let (hive, driver) = Driver::hive();
    let pid = hive.spawn("w", "hold", "gpu").await.unwrap().pid.unwrap();
    driver.uses(9 * GIB, &[(pid, 9 * GIB)]);
    eventually("its memory is not seen", || hive.spawner.registry().handle("w").unwrap().known.gpus.memory().used_bytes == Some(9 * GIB))
        .await;
    hive.stop("w", 0).await;
    assert_eq!(state(&hive)["state"], "releasing", "the driver has not given it back");
    assert_eq!(hive.spawn("v", "hold", "gpu").await.unwrap_err().kind, ErrorKind::DeviceBusy);
    driver.uses(9 * GIB, &[]);
    eventually("it is not taken out of use", || state(&hive)["state"] == "vram_leaked").await;
    assert!(state(&hive)["state_reason"].as_str().unwrap().contains("bytes are in use"));
    driver.uses(0, &[]);
    eventually("it is not healed", || state(&hive)["state"] == "free").await;
    hive.spawn("v", "hold", "gpu").await.unwrap();
    hive.stop("v", 0).await;
    eventually("the lease is kept", || state(&hive)["state"] == "free").await;
    let released = told(&hive, EventKind::Lease).await;
    let how: Vec<&Value> = released.iter().filter(|(_, data)| data["act"] == "released").map(|(_, data)| &data["memory"]).collect();
    assert_eq!(how, [&json!("leaked"), &json!("measured")]);
}

#[tokio::test]
async fn a_silent_gpu_is_given_to_nobody_and_its_worker_goes_on() {
    let (hive, driver) = Driver::hive();
    let worker = hive.spawn("w", "hold", "gpu").await.unwrap();
    driver.tells(|gpu| gpu.silent = Some("no answer".into()));
    let (whose, data) = until_told(&hive, EventKind::Device, "drained").await;
    assert_eq!((whose.as_deref(), &data["device"]), (Some("w"), &json!("GPU-0")));
    assert_eq!(state(&hive)["state"], "quarantined");
    let view = hive.spawner.status(&id("w")).await.unwrap();
    assert_eq!((view.state, view.pid), (WorkerState::Ready, worker.pid));
    driver.tells(|gpu| gpu.silent = None);
    until_told(&hive, EventKind::Device, "healed").await;
    assert_eq!(state(&hive)["state"], "leased");
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_fault_is_told_to_the_worker_that_holds_the_gpu() {
    let (hive, driver) = Driver::hive();
    let pid = hive.spawn("w", "hold", "gpu").await.unwrap().pid;
    driver.tells(|gpu| gpu.xids = vec![Xid { code: 31, pid, id: "1".into() }]);
    let (whose, data) = until_told(&hive, EventKind::Device, "xid").await;
    assert_eq!((whose.as_deref(), &data["xid"], &data["class"], &data["pid"]), (Some("w"), &json!(31), &json!("application"), &json!(pid)));
    assert_eq!(state(&hive)["state"], "leased", "a program's fault takes no GPU out of use");
    let incidents = hive.spawner.explain(&id("w")).await.unwrap().incidents;
    assert!(incidents[0].text.starts_with("Xid 31 of GPU-0: "), "{incidents:?}");
    driver.tells(|gpu| gpu.xids = vec![Xid { code: 79, pid: None, id: "2".into() }]);
    until_told(&hive, EventKind::Device, "drained").await;
    driver.tells(|gpu| gpu.xids = vec![]);
    driver.seen(5).await;
    assert_eq!(state(&hive)["state"], "quarantined", "that it answers again is no reset");
    assert_eq!(hive.spawner.device_heal("GPU-9").await.unwrap_err().kind, ErrorKind::NoSuchDevice);
    hive.spawner.device_heal("GPU-0").await.unwrap();
    until_told(&hive, EventKind::Device, "healed").await;
    assert_eq!(told(&hive, EventKind::Device).await.iter().filter(|(_, data)| data["xid"] == 31).count(), 1, "told once");
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_stranger_is_told_and_keeps_a_free_gpu_from_who_does_not_name_it() {
    let (hive, driver) = Driver::hive();
    let own = std::process::id().cast_signed();
    driver.uses(GIB, &[(own, GIB)]);
    eventually("it is not seen", || state(&hive)["foreign"] == json!([own])).await;
    let (whose, data) = until_told(&hive, EventKind::Device, "foreign").await;
    assert_eq!((whose, &data["foreign"]), (None, &json!([own])));
    assert_eq!(hive.spawn("v", "hold", "gpu").await.unwrap_err().kind, ErrorKind::DeviceBusy);
    driver.uses(0, &[]);
    eventually("it is still there", || state(&hive)["foreign"] == json!([])).await;
    let pid = hive.spawn("w", "hold", "gpu").await.unwrap().pid.unwrap();
    driver.uses(GIB, &[(pid, GIB)]);
    eventually("its memory is not seen", || hive.spawner.registry().handle("w").unwrap().known.gpus.memory().used_bytes == Some(GIB)).await;
    assert_eq!(state(&hive)["foreign"], json!([]), "a worker is no stranger");
    driver.uses(0, &[]);
    hive.stop("w", 0).await;
}

#[tokio::test]
async fn a_worker_that_stays_over_its_gpu_memory_is_warned_and_stopped() {
    let (hive, driver) = Driver::hive();
    let view = hive.spawn("w", "hold", "gpu-limited").await.unwrap();
    let pid = view.pid.unwrap();
    driver.uses(2 * GIB, &[(pid, 2 * GIB)]);
    let (whose, data) = until_told(&hive, EventKind::Pressure, "over").await;
    assert_eq!((whose.as_deref(), &data["used_bytes"], &data["limit_bytes"]), (Some("w"), &json!(2 * GIB), &json!(GIB)));
    let ended = hive.until("w", |view| view.has_ended()).await;
    assert!(matches!(ended.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::GpuMemory, .. }));
    assert_eq!(ended.state, WorkerState::Failed);
    driver.uses(0, &[]);
}

#[tokio::test]
async fn what_of_gpu_memory_is_known_and_held_is_in_the_status() {
    let (hive, driver) = Driver::hive();
    hive.spawn("w", "hold", "gpu-limited").await.unwrap();
    driver.tells(|gpu| gpu.processes = None);
    let memory = |used| {
        Some(GpuMemoryView { used_bytes: used, limit_bytes: Some(GIB), enforced_by: Some(rbee_hive_policy::GpuMemoryEnforcer::Soft) })
    };
    eventually("a use is made up", || hive.spawner.registry().handle("w").unwrap().known.gpus.memory().used_bytes.is_none()).await;
    assert_eq!(hive.spawner.status(&id("w")).await.unwrap().gpu_memory, memory(None));
    driver.uses(0, &[]);
    eventually("it is not seen", || hive.spawner.registry().handle("w").unwrap().known.gpus.memory().used_bytes == Some(0)).await;
    hive.stop("w", 0).await;
    let on_cpu = hive.spawn("c", "hold", "bare").await.unwrap();
    assert_eq!(on_cpu.gpu_memory, None);
    hive.stop("c", 0).await;
}

#[tokio::test]
async fn who_takes_the_place_of_an_idle_worker_waits_for_its_memory() {
    let (hive, driver) = Driver::hive_with(Duration::from_secs(20));
    driver.uses(GIB, &[]);
    eventually("nobody looks", || state(&hive)["memory_free_bytes"] == 79 * GIB).await;
    hive.spawn("old", "serve", "one").await.unwrap();
    driver.uses(9 * GIB, &[]);
    let handle = hive.spawner.registry().handle("old").unwrap();
    eventually("it is not idle", || handle.usage.idle_for().is_some_and(|t| t.as_millis() >= 1000)).await;
    let spawner = hive.spawner.clone();
    let new = tokio::spawn(async move { spawner.spawn(params("new", "serve", "one")).await });
    let ended = hive.until("old", |view| view.has_ended()).await;
    assert!(matches!(ended.verdict.unwrap().verdict, Verdict::Stopped { by: StoppedBy::Evicted, .. }));
    eventually("nothing is awaited", || state(&hive)["state"] == "releasing").await;
    assert!(!new.is_finished(), "{:?}", new.await);
    driver.uses(GIB, &[]);
    assert_eq!(new.await.unwrap().unwrap().devices, ["GPU-0"]);
    hive.stop("new", 0).await;
}

#[tokio::test]
async fn a_gpu_of_a_start_whose_end_nobody_knows_is_free_when_its_memory_is_seen_to_be_back() {
    let (hive, driver) = Driver::hive();
    driver.uses(GIB, &[]);
    eventually("nobody looks", || state(&hive)["memory_free_bytes"] == 79 * GIB).await;
    hive.seen.close_gate();
    let spawner = hive.spawner.clone();
    let start = tokio::spawn(async move { spawner.spawn(params("w", "unclear", "gpu")).await });
    eventually("it has no GPU", || state(&hive)["state"] == "leased").await;
    driver.uses(9 * GIB, &[]);
    hive.seen.open_gate();
    assert_eq!(start.await.unwrap().unwrap_err().kind, ErrorKind::LauncherGone);
    assert!(!hive.spawner.registry().contains("w"));
    let now = state(&hive)["state"].clone();
    assert!(now == "releasing" || now == "vram_leaked", "{now}: somebody has its memory");
    driver.uses(GIB, &[]);
    eventually("it is kept", || state(&hive)["state"] == "free").await;
}
