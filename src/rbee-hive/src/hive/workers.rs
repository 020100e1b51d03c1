//! The part of the spawner that requests reach, as a trait: tests answer in its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::async_trait;
use rbee_hive_devices::DeviceSpec;
use rbee_hive_policy::{LimitKey, LimitValue, WorkerId};
use rbee_hive_sandbox::protocol::{BelowUse, Judgement, PolicyInfo};
use rbee_hive_worker_lifecycle::{
    Explanation, ExternalLease, HistoryRange, LeaseLife, LifecycleError, LogPage, PolicyExplanation, ProcessView, SpawnParams, WaitFor,
    WorkerFilter, WorkerHistory, WorkerSpawner, WorkerView,
};
use serde_json::Value;

/// What the spawner answers.
pub(crate) type Outcome<T> = Result<T, LifecycleError>;

/// See [`WorkerSpawner`] for each method's meaning.
#[async_trait]
#[allow(missing_docs, reason = "one to one the spawner's methods")]
pub(crate) trait Workers: Send + Sync {
    async fn spawn(&self, params: SpawnParams) -> Outcome<WorkerView>;
    async fn stop(&self, id: &WorkerId, grace_ms: Option<u64>) -> Outcome<WorkerView>;
    async fn delete(&self, id: &WorkerId) -> Outcome<WorkerView>;
    async fn wait(&self, id: &WorkerId, until: WaitFor, timeout: Option<Duration>) -> Outcome<WorkerView>;
    async fn signal(&self, id: &WorkerId, signal: i32) -> Outcome<WorkerView>;
    async fn status(&self, id: &WorkerId) -> Outcome<WorkerView>;
    async fn list(&self, filter: &WorkerFilter) -> Vec<WorkerView>;
    async fn processes(&self, id: Option<&WorkerId>) -> Outcome<Vec<ProcessView>>;
    async fn verify(&self, id: &WorkerId) -> Outcome<WorkerView>;
    async fn update(&self, id: &WorkerId, limits: BTreeMap<LimitKey, LimitValue>, below_use: BelowUse) -> Outcome<WorkerView>;
    async fn freeze(&self, id: &WorkerId) -> Outcome<WorkerView>;
    async fn thaw(&self, id: &WorkerId) -> Outcome<WorkerView>;
    async fn logs(&self, id: &WorkerId, tail: usize, since: Option<String>) -> Outcome<LogPage>;
    async fn history(&self, id: &WorkerId, range: HistoryRange) -> Outcome<WorkerHistory>;
    async fn policy_list(&self) -> Outcome<Vec<PolicyInfo>>;
    async fn policy_show(&self, name: &str) -> Outcome<(String, String, Value)>;
    async fn policy_explain(&self, name: &str) -> Outcome<PolicyExplanation>;
    async fn policy_doctor(&self, name: &str) -> Outcome<Judgement>;
    async fn explain(&self, id: &WorkerId) -> Outcome<Explanation>;
    fn leases(&self) -> Vec<ExternalLease>;
    async fn lease_acquire(&self, holder: &str, device: DeviceSpec, life: LeaseLife) -> Outcome<ExternalLease>;
    async fn lease_release(&self, lease_id: &str) -> Outcome<()>;
    async fn device_heal(&self, device: &str) -> Outcome<()>;
    fn drain(&self);
    fn draining(&self) -> bool;
    async fn shutdown(&self);
}

#[async_trait]
impl Workers for Arc<WorkerSpawner> {
    async fn spawn(&self, params: SpawnParams) -> Outcome<WorkerView> {
        WorkerSpawner::spawn(self, params).await
    }
    async fn stop(&self, id: &WorkerId, grace_ms: Option<u64>) -> Outcome<WorkerView> {
        WorkerSpawner::stop(self, id, grace_ms).await
    }
    async fn delete(&self, id: &WorkerId) -> Outcome<WorkerView> {
        WorkerSpawner::delete(self, id).await
    }
    async fn wait(&self, id: &WorkerId, until: WaitFor, timeout: Option<Duration>) -> Outcome<WorkerView> {
        WorkerSpawner::wait(self, id, until, timeout).await
    }
    async fn signal(&self, id: &WorkerId, signal: i32) -> Outcome<WorkerView> {
        WorkerSpawner::signal(self, id, signal).await
    }
    async fn status(&self, id: &WorkerId) -> Outcome<WorkerView> {
        WorkerSpawner::status(self, id).await
    }
    async fn list(&self, filter: &WorkerFilter) -> Vec<WorkerView> {
        WorkerSpawner::list(self, filter).await
    }
    async fn processes(&self, id: Option<&WorkerId>) -> Outcome<Vec<ProcessView>> {
        WorkerSpawner::processes(self, id).await
    }
    async fn verify(&self, id: &WorkerId) -> Outcome<WorkerView> {
        WorkerSpawner::verify(self, id).await
    }
    async fn update(&self, id: &WorkerId, limits: BTreeMap<LimitKey, LimitValue>, below_use: BelowUse) -> Outcome<WorkerView> {
        WorkerSpawner::update(self, id, limits, below_use).await
    }
    async fn freeze(&self, id: &WorkerId) -> Outcome<WorkerView> {
        WorkerSpawner::freeze(self, id).await
    }
    async fn thaw(&self, id: &WorkerId) -> Outcome<WorkerView> {
        WorkerSpawner::thaw(self, id).await
    }
    async fn logs(&self, id: &WorkerId, tail: usize, since: Option<String>) -> Outcome<LogPage> {
        WorkerSpawner::logs(self, id, tail, since).await
    }
    async fn history(&self, id: &WorkerId, range: HistoryRange) -> Outcome<WorkerHistory> {
        WorkerSpawner::history(self, id, range).await
    }
    async fn policy_list(&self) -> Outcome<Vec<PolicyInfo>> {
        WorkerSpawner::policy_list(self).await
    }
    async fn policy_show(&self, name: &str) -> Outcome<(String, String, Value)> {
        WorkerSpawner::policy_show(self, name).await
    }
    async fn policy_explain(&self, name: &str) -> Outcome<PolicyExplanation> {
        WorkerSpawner::policy_explain(self, name).await
    }
    async fn policy_doctor(&self, name: &str) -> Outcome<Judgement> {
        WorkerSpawner::policy_doctor(self, name).await
    }
    async fn explain(&self, id: &WorkerId) -> Outcome<Explanation> {
        WorkerSpawner::explain(self, id).await
    }
    fn leases(&self) -> Vec<ExternalLease> {
        WorkerSpawner::leases(self)
    }
    async fn lease_acquire(&self, holder: &str, device: DeviceSpec, life: LeaseLife) -> Outcome<ExternalLease> {
        WorkerSpawner::lease_acquire(self, holder, device, life).await
    }
    async fn lease_release(&self, lease_id: &str) -> Outcome<()> {
        WorkerSpawner::lease_release(self, lease_id).await
    }
    async fn device_heal(&self, device: &str) -> Outcome<()> {
        WorkerSpawner::device_heal(self, device).await
    }
    fn drain(&self) {
        WorkerSpawner::drain(self);
    }
    fn draining(&self) -> bool {
        WorkerSpawner::draining(self)
    }
    async fn shutdown(&self) {
        WorkerSpawner::shutdown(self).await;
    }
}
