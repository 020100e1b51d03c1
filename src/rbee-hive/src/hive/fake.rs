//! A spawner for tests of the interfaces: answers by the worker's name, starts nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jsonrpsee::core::async_trait;
use rbee_hive_devices::{DeviceSpec, LeaseView, Share};
use rbee_hive_policy::{LimitKey, LimitValue, WorkerId};
use rbee_hive_sandbox::protocol::{BelowUse, CgroupFacts, CgroupMode, Judgement, PolicyInfo, Resources};
use rbee_hive_worker_lifecycle::{
    CgroupView, ErrorKind, Explanation, ExternalLease, HistoryRange, LeaseLife, LifecycleError, LogPage, PolicyExplanation, ProcessView,
    SpawnParams, WaitFor, WorkerFilter, WorkerHistory, WorkerState, WorkerView,
};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{HiveState, Outcome, Workers};
use crate::jobs::JobBoard;

/// What it was asked, and what ends a spawn that hangs.
#[derive(Default)]
pub(crate) struct FakeWorkers {
    /// Names and acts, in order.
    pub(crate) seen: Mutex<Vec<String>>,
    draining: AtomicBool,
    stopped: Notify,
}

/// A hive over the fake.
pub(crate) fn state() -> (Arc<HiveState>, Arc<FakeWorkers>) {
    let fake = Arc::new(FakeWorkers::default());
    let cgroup = CgroupFacts { mode: CgroupMode::None, root: "/test".into(), mounts: BTreeMap::new(), notes: vec![] };
    let state = HiveState {
        id: "test-host".into(),
        workers: Arc::new(Arc::clone(&fake)),
        cgroup,
        host: BTreeMap::new(),
        devices: Box::new(|| json!({"devices": [{"name": "CPU-0"}], "notes": ["no GPU"], "source": "test"})),
        events: Arc::default(),
        jobs: JobBoard::new(rbee_hive_narration::Narrator::new(Arc::new(rbee_hive_narration::JobStreams::new()))),
        stopping: CancellationToken::new(),
    };
    (Arc::new(state), fake)
}

fn view(id: &str) -> WorkerView {
    WorkerView {
        worker_id: id.into(),
        model: "m".into(),
        devices: vec!["CPU-0".into()],
        policy: "default".into(),
        labels: BTreeMap::new(),
        state: WorkerState::Ready,
        generation: 1,
        restarts: 0,
        pid: Some(2),
        init_pid: Some(1),
        port: Some(9100),
        endpoint: Some("http://127.0.0.1:9100".into()),
        created_at: "2026-01-01T00:00:00Z".into(),
        started_at: None,
        ready_at: None,
        ended_at: None,
        cgroup: CgroupView { mode: CgroupMode::None, path: None },
        limits: BTreeMap::new(),
        not_in_force: vec![],
        drift: vec![],
        verified: None,
        gpu_memory: None,
        resources: Resources::default(),
        unmeasured: vec![],
        verdict: None,
    }
}

impl FakeWorkers {
    fn note(&self, act: &str, id: &str) {
        self.seen.lock().unwrap().push(format!("{act} {id}"));
    }

    #[allow(clippy::result_large_err, reason = "the size is the spawner's own error's; the trait has it, too")]
    fn by_name(&self, act: &str, id: &WorkerId) -> Outcome<WorkerView> {
        self.note(act, id.as_str());
        match id.as_str() {
            "absent" => Err(LifecycleError::new(ErrorKind::NotFound, "there is no worker 'absent'")),
            other => Ok(view(other)),
        }
    }
}

#[async_trait]
impl Workers for Arc<FakeWorkers> {
    async fn spawn(&self, params: SpawnParams) -> Outcome<WorkerView> {
        let id = params.worker_id.map_or("generated".to_owned(), String::from);
        self.note("spawn", &id);
        match id.as_str() {
            "panics" => panic!("a defect in the spawner"),
            "hangs" => {
                self.stopped.notified().await;
                self.note("ended", &id);
                Err(LifecycleError::new(ErrorKind::StartFailed, "stopped while starting"))
            }
            "no-gpu" => {
                let mut error = LifecycleError::new(ErrorKind::NoSuchDevice, "this host has no GPU-0");
                error.hint = Some("use CPU-0".into());
                Err(error)
            }
            other => Ok(view(other)),
        }
    }
    async fn stop(&self, id: &WorkerId, _: Option<u64>) -> Outcome<WorkerView> {
        self.stopped.notify_one();
        self.by_name("stop", id)
    }
    async fn delete(&self, id: &WorkerId) -> Outcome<WorkerView> {
        self.by_name("delete", id)
    }
    async fn wait(&self, id: &WorkerId, _: WaitFor, _: Option<Duration>) -> Outcome<WorkerView> {
        self.by_name("wait", id)
    }
    async fn signal(&self, id: &WorkerId, _: i32) -> Outcome<WorkerView> {
        self.by_name("signal", id)
    }
    async fn status(&self, id: &WorkerId) -> Outcome<WorkerView> {
        self.by_name("status", id)
    }
    async fn list(&self, _: &WorkerFilter) -> Vec<WorkerView> {
        vec![view("a")]
    }
    async fn processes(&self, _: Option<&WorkerId>) -> Outcome<Vec<ProcessView>> {
        Ok(vec![])
    }
    async fn verify(&self, id: &WorkerId) -> Outcome<WorkerView> {
        self.by_name("verify", id)
    }
    async fn update(&self, id: &WorkerId, _: BTreeMap<LimitKey, LimitValue>, below_use: BelowUse) -> Outcome<WorkerView> {
        self.by_name(if below_use == BelowUse::Reclaim { "update with reclaim" } else { "update" }, id)
    }
    async fn freeze(&self, id: &WorkerId) -> Outcome<WorkerView> {
        self.by_name("freeze", id)
    }
    async fn thaw(&self, id: &WorkerId) -> Outcome<WorkerView> {
        self.by_name("thaw", id)
    }
    async fn logs(&self, _: &WorkerId, _: usize, _: Option<String>) -> Outcome<LogPage> {
        Ok(LogPage::default())
    }
    async fn history(&self, id: &WorkerId, range: HistoryRange) -> Outcome<WorkerHistory> {
        self.by_name(&format!("history since {:?} of {:?} points", range.since.map(|s| s.to_string()), range.max_points), id)?;
        Ok(WorkerHistory { worker_id: id.to_string(), ..WorkerHistory::default() })
    }
    async fn policy_list(&self) -> Outcome<Vec<PolicyInfo>> {
        Ok(vec![])
    }
    async fn policy_show(&self, name: &str) -> Outcome<(String, String, Value)> {
        Err(LifecycleError::new(ErrorKind::UnknownPolicy, format!("there is no policy '{name}'")))
    }
    async fn policy_explain(&self, name: &str) -> Outcome<PolicyExplanation> {
        let fragment = |name: &str| rbee_hive_policy::embedded::fragment(name).map(str::to_owned);
        let text = rbee_hive_policy::embedded::policy(name).unwrap_or_default();
        let traced = rbee_hive_policy::Policy::trace(name, "embedded", text, &fragment)
            .map_err(|e| LifecycleError::new(ErrorKind::InvalidPolicy, e.to_string()))?;
        let exposure = rbee_hive_policy::exposure::exposure(&traced.policy, &[]);
        let settings = rbee_hive_policy::explain::explain(&traced);
        Ok(PolicyExplanation { name: name.into(), source: "embedded".into(), settings, exposure })
    }
    async fn policy_doctor(&self, name: &str) -> Outcome<Judgement> {
        Err(LifecycleError::new(ErrorKind::UnknownPolicy, format!("there is no policy '{name}'")))
    }
    async fn explain(&self, id: &WorkerId) -> Outcome<Explanation> {
        let view = self.by_name("explain", id)?;
        Ok(Explanation {
            worker_id: view.worker_id,
            policy: view.policy,
            source: None,
            settings: None,
            limits: vec![],
            not_in_force: vec![],
            incidents: vec![],
            exposure: None,
        })
    }
    fn leases(&self) -> Vec<ExternalLease> {
        vec![]
    }
    async fn lease_acquire(&self, holder: &str, _: DeviceSpec, life: LeaseLife) -> Outcome<ExternalLease> {
        self.note("lease", holder);
        let lease = LeaseView {
            lease_id: "lease:1".into(),
            kind: "external",
            holder: holder.into(),
            devices: vec!["GPU-0".into()],
            share: Some(Share::Exclusive),
            state: "held",
            used_by: None,
        };
        let bound_to_connection = life.connection.is_some();
        if let Some(end) = life.connection {
            let (fake, holder) = (Arc::clone(self), holder.to_owned());
            tokio::spawn(async move {
                end.await;
                fake.note("lease ended", &holder);
            });
        }
        Ok(ExternalLease { lease, expires_at: None, bound_to_connection })
    }
    async fn lease_release(&self, lease_id: &str) -> Outcome<()> {
        self.note("release", lease_id);
        Ok(())
    }
    async fn device_heal(&self, device: &str) -> Outcome<()> {
        self.note("heal", device);
        Ok(())
    }
    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
    fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
    async fn shutdown(&self) {}
}
