//! Plans and views of workers that nobody starts.

use std::sync::Arc;

use rbee_hive_policy::{Command, Life, SandboxPlan, WorkerRequest};
use rbee_hive_sandbox::protocol::CgroupMode;
use tokio::sync::watch;

use super::fake_launcher;
use super::hive::id;
use crate::task::WorkerHandle;
use crate::{CgroupView, WorkerState, WorkerView};

/// A plan under one of the fake launcher's policies.
pub(crate) fn of(policy: &str) -> SandboxPlan {
    named("w", policy)
}

/// The same for a worker of this name.
pub(crate) fn named(name: &str, policy: &str) -> SandboxPlan {
    fake_launcher::plan(&WorkerRequest {
        worker_id: id(name),
        policy: policy.into(),
        command: Command::Worker { model: "m".into(), args: vec![] },
        devices: vec!["CPU-0".into()],
        lease: None,
        mps: None,
        env: Default::default(),
        limits: Default::default(),
        port: Some(9100),
        life: Life::First,
    })
}

/// A worker as it is seen that is starting.
pub(crate) fn view(name: &str) -> WorkerView {
    WorkerView {
        worker_id: name.into(),
        model: "m".into(),
        devices: vec!["CPU-0".into()],
        policy: "bare".into(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        state: WorkerState::Starting,
        generation: 3,
        restarts: 2,
        pid: Some(7),
        init_pid: Some(6),
        port: Some(9100),
        endpoint: Some("http://127.0.0.1:9100".into()),
        created_at: "2026-01-01T00:00:00.000Z".into(),
        started_at: None,
        ready_at: None,
        ended_at: None,
        cgroup: CgroupView { mode: CgroupMode::None, path: None },
        limits: Default::default(),
        not_in_force: vec![],
        drift: vec![],
        verified: None,
        gpu_memory: None,
        resources: Default::default(),
        unmeasured: vec![],
        verdict: None,
        status_text: None,
    }
}

/// The same without a task: who holds the sender changes it.
pub(crate) fn worker(name: &str) -> (watch::Sender<WorkerView>, WorkerHandle) {
    let sender = watch::Sender::new(view(name));
    let (commands, _) = crate::task::commands();
    let handle = WorkerHandle { id: id(name), commands, view: sender.subscribe(), usage: Arc::default(), known: Arc::default() };
    (sender, handle)
}
