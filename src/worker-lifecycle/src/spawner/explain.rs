//! Policies explained: where each setting is from, what of a policy this host enforces, and what a worker's start was decided by.
//!
//! The launcher reads policies; what they say is worked out here. Must never know how an explanation looks.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rbee_hive_policy::exposure::{Gap, exposure};
use rbee_hive_policy::{LimitKey, Traced, WorkerId, explain};
use rbee_hive_sandbox::protocol::{FromLauncher, Judgement, PolicyTexts, ToLauncher};

use super::{Attached, Result, WorkerSpawner};
use crate::channel::lock;
use crate::explanation::{Explanation, LimitOrigin, LimitView, PolicyExplanation};
use crate::task::{Decision, WorkerHandle};
use crate::{ErrorKind, LifecycleError, WorkerView};

/// Most versions of policies that are kept for the workers that were started under them.
const MAX_VERSIONS: usize = 64;

/// A policy as it was when a worker was started under it.
#[derive(Debug)]
pub(super) struct Version {
    digest: u64,
    source: String,
    traced: Traced,
}

/// The last ones first.
pub(super) type Versions = VecDeque<Arc<Version>>;

impl WorkerSpawner {
    /// Where each setting of a policy is from, and its score.
    ///
    /// Errors: `unknown_policy`, `invalid_policy`.
    pub async fn policy_explain(&self, name: &str) -> Result<PolicyExplanation> {
        let texts = self.attached()?.texts(name).await?;
        let (name, source) = (texts.name.clone(), texts.source.clone());
        let traced = traced(texts).await?;
        Ok(PolicyExplanation { name, source, settings: explain::explain(&traced), exposure: exposure(&traced.policy, &[]) })
    }

    /// What of a policy this host enforces, as the launcher finds it.
    ///
    /// Errors: `unknown_policy`, `invalid_policy`.
    pub async fn policy_doctor(&self, name: &str) -> Result<Judgement> {
        let name = name.to_owned();
        match self.attached()?.tools.launcher.ask(|seq| ToLauncher::PolicyJudge { seq, name }, &[]).await? {
            (FromLauncher::Judged { judgement, .. }, _) => Ok(*judgement),
            (FromLauncher::Refused { error, .. }, _) => Err(error.into()),
            _ => Err(crate::launcher::gone()),
        }
    }

    /// Why a worker may do what it may: its policy's grants with their places, its limits with who set them, what is not in force. Also of
    /// the last ones that were deleted.
    ///
    /// Errors: `not_found`.
    pub async fn explain(&self, id: &WorkerId) -> Result<Explanation> {
        let (view, known) = match self.handle(id) {
            Ok(handle) => (handle.view(), handle.known),
            Err(error) => self.deleted_before(id).map(|deleted| (deleted.view, deleted.known)).ok_or(error)?,
        };
        let decision = known.decision.get();
        let version = match decision {
            Some(decision) => self.attached()?.version(&view.policy, decision.policy_digest).await,
            None => None,
        };
        let updated = lock(&known.updated).clone();
        Ok(Explanation { incidents: known.gpus.incidents(), ..explanation(view, (decision, &updated), version.as_deref()) })
    }

    /// Keeps the version of its policy that a worker has just been started under, while the file still says it.
    pub(super) fn remember(&self, handle: &WorkerHandle, policy: &str) {
        let (spawner, policy, known) = (self.clone(), policy.to_owned(), Arc::clone(&handle.known));
        let Some(digest) = known.decision.get().map(|decision| decision.policy_digest) else { return };
        if self.attached.as_ref().is_some_and(|attached| attached.kept(digest).is_some()) {
            return;
        }
        tokio::spawn(async move {
            if let Ok(attached) = spawner.attached() {
                attached.version(&policy, digest).await;
            }
        });
    }
}

impl Attached {
    async fn texts(&self, name: &str) -> Result<PolicyTexts> {
        let name = name.to_owned();
        match self.tools.launcher.ask(|seq| ToLauncher::PolicyTexts { seq, name }, &[]).await? {
            (FromLauncher::Texts { texts, .. }, _) => Ok(texts),
            (FromLauncher::Refused { error, .. }, _) => Err(error.into()),
            _ => Err(crate::launcher::gone()),
        }
    }

    fn kept(&self, digest: u64) -> Option<Arc<Version>> {
        lock(&self.versions).iter().find(|version| version.digest == digest).cloned()
    }

    /// The version of the policy `name` with this digest; `None` where the file says something else by now.
    async fn version(&self, name: &str, digest: u64) -> Option<Arc<Version>> {
        if let Some(kept) = self.kept(digest) {
            return Some(kept);
        }
        let texts = self.texts(name).await.ok().filter(|texts| texts.digest() == digest)?;
        let source = texts.source.clone();
        let version = Arc::new(Version { digest, source, traced: traced(texts).await.ok()? });
        let mut versions = lock(&self.versions);
        // Others may have asked meanwhile.
        if let Some(kept) = versions.iter().find(|version| version.digest == digest) {
            return Some(Arc::clone(kept));
        }
        versions.truncate(MAX_VERSIONS - 1);
        versions.push_front(Arc::clone(&version));
        Some(version)
    }
}

/// Parsing takes its time: not on a thread that serves others.
async fn traced(texts: PolicyTexts) -> Result<Traced> {
    let invalid = |why: String| LifecycleError::new(ErrorKind::InvalidPolicy, why);
    let parsing = tokio::task::spawn_blocking(move || texts.trace());
    parsing.await.map_err(|e| invalid(format!("the policy could not be read: {e}")))?.map_err(|e| invalid(e.to_string()))
}

fn explanation(view: WorkerView, (decision, updated): (Option<&Decision>, &BTreeSet<LimitKey>), version: Option<&Version>) -> Explanation {
    let gaps = decision.map(|decision| Gap::of(decision.remains, &view.not_in_force)).unwrap_or_default();
    let limits = view.limits.iter().map(|(key, value)| {
        let own = version.and_then(|v| v.traced.policy.limits.get(key));
        let asked = decision.is_some_and(|decision| decision.asked.contains(key));
        let origin = match (asked, own, version) {
            _ if updated.contains(key) => LimitOrigin::Update,
            (true, _, _) => LimitOrigin::Request,
            (false, Some(own), _) if own.value == *value => LimitOrigin::Policy,
            (false, _, Some(_)) => LimitOrigin::DeviceLease,
            (false, _, None) => LimitOrigin::Unknown,
        };
        let place = version.filter(|_| origin == LimitOrigin::Policy).map(|v| v.traced.origins.of(&format!("limits.{}", key.name())));
        let from = place.map(|place| place.map_or_else(|| explain::DEFAULT.to_owned(), |origin| origin.to_string()));
        LimitView { limit: *key, value: value.clone(), origin, from }
    });
    Explanation {
        limits: limits.collect(),
        source: version.map(|v| v.source.clone()),
        settings: version.map(|v| explain::explain(&v.traced)),
        exposure: version.map(|v| exposure(&v.traced.policy, &gaps)),
        worker_id: view.worker_id,
        policy: view.policy,
        not_in_force: view.not_in_force,
        incidents: vec![],
    }
}
