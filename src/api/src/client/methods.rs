//! The methods of `API.md` with their types.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, ClientError, Deadline};
use crate::{
    BelowUse, Device, HiveInfo, Lease, LeaseParams, LogPage, PolicyExplanation, PolicyInfo, PolicyJudgement, PolicyScore, PolicyText,
    Process, SpawnParams, Topology, WaitFor, Worker, WorkerExplanation, WorkerHistory,
};

/// What a wait with a time-out of the hive's may take beyond that before the client gives up.
const BEYOND: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, ClientError>;

/// Every method fails as [`Client::call`] does.
#[allow(clippy::missing_errors_doc, reason = "said once above")]
impl Client {
    /// Starts a worker; returns when it is ready or started, as asked. No time-out of the client's.
    pub async fn worker_spawn(&self, params: &SpawnParams) -> Result<Worker> {
        let params = serde_json::to_value(params).map_err(|e| self.protocol("write the parameters".into()).because(e))?;
        self.request("worker_spawn", params).await
    }

    /// One worker.
    pub async fn worker_status(&self, worker_id: &str) -> Result<Worker> {
        self.request("worker_status", json!({"worker_id": worker_id})).await
    }

    /// All workers, or those in `state` and with all of `labels`.
    pub async fn worker_list(&self, state: Option<&str>, labels: &BTreeMap<String, String>) -> Result<Vec<Worker>> {
        let mut params = json!({});
        if let Some(state) = state {
            params["state"] = json!(state);
        }
        if !labels.is_empty() {
            params["labels"] = json!(labels);
        }
        self.request("worker_list", params).await
    }

    /// Stops a worker: its policy's grace where `grace` is `None`, at once where it is 0. Idempotent.
    pub async fn worker_stop(&self, worker_id: &str, grace: Option<Duration>) -> Result<Worker> {
        let mut params = json!({"worker_id": worker_id});
        if let Some(grace) = grace {
            params["grace_ms"] = json!(milliseconds(grace));
        }
        self.request("worker_stop", params).await
    }

    /// Stops a worker if need be and takes it off the list.
    pub async fn worker_delete(&self, worker_id: &str) -> Result<Value> {
        self.call("worker_delete", json!({"worker_id": worker_id})).await
    }

    /// Waits for a worker; without `timeout` for ever.
    pub async fn worker_wait(&self, worker_id: &str, until: WaitFor, timeout: Option<Duration>) -> Result<Worker> {
        let mut params = json!({"worker_id": worker_id, "for": until});
        let mut deadline = Deadline::None;
        if let Some(timeout) = timeout {
            params["timeout_ms"] = json!(milliseconds(timeout));
            deadline = Deadline::Within(timeout.saturating_add(BEYOND));
        }
        let answer = self.call_within(deadline, "worker_wait", params).await?;
        serde_json::from_value(answer).map_err(|e| self.protocol("read the answer of worker_wait".into()).because(e))
    }

    /// Sends a signal, by name or number, to a worker's own process.
    pub async fn worker_signal(&self, worker_id: &str, signal: &str) -> Result<Value> {
        self.call("worker_signal", json!({"worker_id": worker_id, "signal": signal})).await
    }

    /// Lets a worker stand still; connections to it wait.
    pub async fn worker_freeze(&self, worker_id: &str) -> Result<Worker> {
        self.request("worker_freeze", json!({"worker_id": worker_id})).await
    }

    /// Lets it go on; returns when it answers again.
    pub async fn worker_thaw(&self, worker_id: &str) -> Result<Worker> {
        self.request("worker_thaw", json!({"worker_id": worker_id})).await
    }

    /// Reads a worker's sandbox back now; the worker with its drift.
    pub async fn worker_verify(&self, worker_id: &str) -> Result<Worker> {
        self.request("worker_verify", json!({"worker_id": worker_id})).await
    }

    /// Changes limits of a running worker, all of them or none; `below_use` says what becomes of one below the present use.
    pub async fn worker_update(&self, worker_id: &str, limits: &BTreeMap<String, Value>, below_use: BelowUse) -> Result<Worker> {
        let reclaim = below_use == BelowUse::Reclaim;
        self.request("worker_update", json!({"worker_id": worker_id, "limits": limits, "reclaim": reclaim})).await
    }

    /// The last `tail` lines (200 where `None`) that are not older than `since` (RFC 3339).
    pub async fn worker_logs(&self, worker_id: &str, tail: Option<u64>, since: Option<&str>) -> Result<LogPage> {
        let mut params = json!({"worker_id": worker_id});
        if let Some(tail) = tail {
            params["tail"] = json!(tail);
        }
        if let Some(since) = since {
            params["since"] = json!(since);
        }
        self.request("worker_logs", params).await
    }

    /// The processes of one worker, or of all.
    pub async fn worker_process_list(&self, worker_id: Option<&str>) -> Result<Vec<Process>> {
        let params = worker_id.map_or_else(|| json!({}), |id| json!({"worker_id": id}));
        self.request("worker_process_list", params).await
    }

    /// A worker's figures of the last ten minutes: of what is later than `since` (RFC 3339), in at most `max_points` points.
    pub async fn worker_history(&self, worker_id: &str, since: Option<&str>, max_points: Option<u64>) -> Result<WorkerHistory> {
        let mut params = json!({"worker_id": worker_id});
        if let Some(since) = since {
            params["since"] = json!(since);
        }
        if let Some(points) = max_points {
            params["max_points"] = json!(points);
        }
        self.request("worker_history", params).await
    }

    /// CPUs and GPUs, as the hive's inventory describes them.
    pub async fn device_list(&self) -> Result<Vec<Device>> {
        self.request("device_list", Value::Null).await
    }

    /// Every lease.
    pub async fn lease_list(&self) -> Result<Vec<Lease>> {
        self.request("lease_list", Value::Null).await
    }

    /// Takes a lease without a worker. No time-out of the client's: it may wait in line.
    pub async fn lease_acquire(&self, params: &LeaseParams) -> Result<Lease> {
        let params = serde_json::to_value(params).map_err(|e| self.protocol("write the parameters".into()).because(e))?;
        self.request("lease_acquire", params).await
    }

    /// Gives a lease without a worker back.
    pub async fn lease_release(&self, lease_id: &str) -> Result<Value> {
        self.call("lease_release", json!({"lease_id": lease_id})).await
    }

    /// The same with what could not be found out, and why.
    pub async fn device_topology(&self) -> Result<Topology> {
        self.request("device_topology", Value::Null).await
    }

    /// All policies.
    pub async fn policy_list(&self) -> Result<Vec<PolicyInfo>> {
        self.request("policy_list", Value::Null).await
    }

    /// One policy.
    pub async fn policy_show(&self, name: &str) -> Result<PolicyText> {
        self.request("policy_show", json!({"name": name})).await
    }

    /// Whether a policy text is valid; an error says what is wrong with it.
    pub async fn policy_check(&self, text: &str) -> Result<Value> {
        self.call("policy_check", json!({"text": text})).await
    }

    /// Where each setting of a policy is from, and its score.
    pub async fn policy_explain(&self, name: &str) -> Result<PolicyExplanation> {
        self.request("policy_explain", json!({"name": name})).await
    }

    /// How open a policy is.
    pub async fn policy_score(&self, name: &str) -> Result<PolicyScore> {
        self.request("policy_score", json!({"name": name})).await
    }

    /// What of a policy the hive's host enforces.
    pub async fn policy_doctor(&self, name: &str) -> Result<PolicyJudgement> {
        self.request("policy_doctor", json!({"name": name})).await
    }

    /// Why a worker may what it may.
    pub async fn worker_explain(&self, worker_id: &str) -> Result<WorkerExplanation> {
        self.request("worker_explain", json!({"worker_id": worker_id})).await
    }

    /// The hive and what its host can enforce.
    pub async fn hive_info(&self) -> Result<HiveInfo> {
        self.request("hive_info", Value::Null).await
    }

    /// No new workers from now on.
    pub async fn hive_drain(&self) -> Result<Value> {
        self.call("hive_drain", Value::Null).await
    }

    /// Ends the hive; `workers` is `stop` or `keep`.
    pub async fn hive_shutdown(&self, workers: &str) -> Result<Value> {
        self.call("hive_shutdown", json!({"workers": workers})).await
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
