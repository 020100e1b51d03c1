//! The record of one worker. Read by newer programs than wrote it, and the other way round: fields are only ever added, with a default.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rbee_hive_devices::DeviceSpec;
use rbee_hive_policy::{Command, Life, LimitKey, LimitValue, SandboxPlan, WorkerRequest};
use rbee_hive_sandbox::StoppedBy;
use rbee_hive_sandbox::protocol::Resources;
use serde::{Deserialize, Serialize};

use crate::channel::lock;
use crate::events::Timeline;
use crate::explanation::LifeView;
use crate::state::FrozenBy;
use crate::supervision::Backoff;
use crate::task::{Decision, Known, WorkerHandle};
use crate::{Incident, SpawnParams, WorkerView};

/// Format of the records.
pub(super) const VERSION: u32 = 1;

/// What the hive alone knows of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerRecord {
    /// Format.
    pub(crate) version: u32,
    /// The machine's run: no process outlives it.
    pub(crate) boot_id: String,
    /// As clients saw it last. Of one that lives, figures and the last look at its sandbox are left out.
    pub(crate) worker: WorkerView,
    /// What was asked for, to start it again.
    #[serde(default)]
    pub(crate) asked: Option<Asked>,
    /// The job that it was started by.
    #[serde(default)]
    pub(crate) job_id: Option<String>,
    /// Its lease.
    #[serde(default)]
    pub(crate) lease_id: Option<String>,
    /// Who had it frozen, while it is.
    #[serde(default)]
    pub(crate) frozen_by: Option<FrozenBy>,
    /// Who had asked for its end, while it comes to that.
    #[serde(default)]
    pub(crate) stopping: Option<StoppedBy>,
    /// How far its new starts have come.
    #[serde(default)]
    pub(crate) backoff: Backoff,
    /// Its lives that are over, of many the last ones.
    #[serde(default)]
    pub(crate) lives: Vec<LifeView>,
    /// What has happened to it.
    #[serde(default)]
    pub(crate) timeline: Timeline,
    /// What its start was decided by.
    #[serde(default)]
    pub(crate) decision: Option<Decision>,
    /// Limits that were changed since.
    #[serde(default)]
    pub(crate) updated: BTreeSet<LimitKey>,
    /// What has happened to its devices.
    #[serde(default)]
    pub(crate) incidents: Vec<Incident>,
    /// When it was taken off the list, RFC 3339.
    #[serde(default)]
    pub(crate) deleted_at: Option<String>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) model: String,
    pub(crate) device: DeviceSpec,
    pub(crate) policy: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) limits: BTreeMap<LimitKey, LimitValue>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) lease_id: Option<String>,
}

impl From<&SpawnParams> for Asked {
    fn from(params: &SpawnParams) -> Self {
        Self {
            model: params.model.clone(),
            device: params.device.clone(),
            policy: params.policy.clone(),
            args: params.args.clone(),
            env: params.env.clone(),
            limits: params.limits.clone(),
            labels: params.labels.clone(),
            lease_id: params.lease_id.clone(),
        }
    }
}

impl Asked {
    /// The same for another life, with what the last one was made from.
    pub(crate) fn again(&self, plan: &SandboxPlan) -> WorkerRequest {
        WorkerRequest {
            worker_id: plan.worker_id.clone(),
            policy: self.policy.clone(),
            command: Command::Worker { model: self.model.clone(), args: self.args.clone() },
            devices: plan.leased.clone(),
            lease: plan.lease.clone(),
            mps: None,
            env: self.env.clone(),
            limits: self.limits.clone(),
            port: plan.port,
            life: Life::Again,
        }
    }
}

impl WorkerRecord {
    /// Of a worker of which nothing else is known.
    pub(crate) fn bare(worker: WorkerView, boot_id: &str) -> Self {
        Self {
            version: VERSION,
            boot_id: boot_id.to_owned(),
            worker,
            asked: None,
            job_id: None,
            lease_id: None,
            frozen_by: None,
            stopping: None,
            backoff: Backoff::default(),
            lives: vec![],
            timeline: Timeline::default(),
            decision: None,
            updated: BTreeSet::new(),
            incidents: vec![],
            deleted_at: None,
        }
    }

    /// What it tells beside the view, of a worker that something will happen to, or has just happened to.
    pub(crate) fn known_to_go_on(&self) -> Known {
        let known = self.known();
        lock(&known.timeline).clone_from(&self.timeline);
        known
    }

    /// What it tells beside the view.
    pub(crate) fn known(&self) -> Known {
        let known = Known::default();
        let _ = self.asked.clone().map(|asked| known.asked.set(asked));
        let _ = self.job_id.clone().map(|job| known.job_id.set(job));
        let _ = self.lease_id.clone().map(|id| known.lease_id.set(id));
        if let Some(decision) = &self.decision {
            known.decision.set(Arc::new(decision.clone()));
        }
        lock(&known.backoff).clone_from(&self.backoff);
        known.lives.restore(&self.lives);
        lock(&known.updated).clone_from(&self.updated);
        known.gpus.restore_incidents(&self.incidents);
        known
    }

    /// As it is now.
    pub(super) fn of(handle: &WorkerHandle, boot_id: &str) -> Self {
        let (known, mut worker) = (&handle.known, handle.view());
        if !worker.has_ended() {
            // They change all the time, and a hive that reads this takes its own.
            (worker.resources, worker.unmeasured, worker.verified) = (Resources::default(), vec![], None);
        }
        Self {
            version: VERSION,
            boot_id: boot_id.to_owned(),
            worker,
            asked: known.asked.get().cloned(),
            job_id: known.job_id.get().cloned(),
            lease_id: known.lease_id.get().cloned(),
            frozen_by: *lock(&known.frozen_by),
            stopping: *lock(&known.stopping),
            backoff: lock(&known.backoff).clone(),
            lives: known.lives.all(),
            timeline: lock(&known.timeline).clone(),
            decision: known.decision.get().map(|decision| (*decision).clone()),
            updated: lock(&known.updated).clone(),
            incidents: known.gpus.incidents(),
            deleted_at: None,
        }
    }
}
