//! What others hold of a worker.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use rbee_hive_policy::exposure::Remains;
use rbee_hive_policy::{LimitKey, Limits, NotInForce, OnHiveExit, WorkerId};
use rbee_hive_sandbox::{StoppedBy, Verdict};
use serde::{Deserialize, Serialize};
use tokio::sync::{RwLock, mpsc, oneshot, watch};

use super::again::Lives;
use super::gpus::GpusKnown;
use super::latest::Latest;
use crate::events::Timeline;
use crate::init_link::InitLink;
use crate::processes::Owner;
use crate::reach::Usage;
use crate::records::{Asked, Kept};
use crate::sampling::Sampled;
use crate::state::FrozenBy;
use crate::supervision::Backoff;
use crate::{LifecycleError, WorkerState, WorkerView};

/// What a worker's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Stop; the policy's grace where none is given.
    Stop { by: StoppedBy, grace: Option<Duration> },
    /// A signal to the worker's own process.
    Signal { signal: i32 },
    /// Something for its story.
    Tell { text: String },
    /// Show other limits, which the launcher has put in force; `shown` is told afterwards.
    ShowLimits { now: InForce, changed: Vec<LimitKey>, shown: oneshot::Sender<()> },
    /// Show that something of its policy is in force no more.
    NotInForce { note: NotInForce },
    /// Let it stand still; `tell` hears when it does.
    Freeze { tell: Told },
    /// Let it run again; `tell` hears when it does, before it has answered its probe.
    Thaw { tell: Told },
}

/// Limits of a worker and what of its plan is not in force, after an update.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InForce {
    /// All limits of its plan.
    pub(crate) limits: Limits,
    /// All of the plan's.
    pub(crate) not_in_force: Vec<NotInForce>,
}

impl InForce {
    /// The notes of a worker with those about limits replaced: others may have come to know more than the launcher.
    pub(crate) fn among(&self, before: &[NotInForce]) -> Vec<NotInForce> {
        let about_a_limit = |note: &&NotInForce| LimitKey::from_name(&note.setting).is_ok();
        let others = before.iter().filter(|note| !about_a_limit(note));
        others.chain(self.not_in_force.iter().filter(about_a_limit)).cloned().collect()
    }

    /// All of it, with what others knew before beside it; what they knew of a limit is past.
    pub(crate) fn with_what_others_knew(mut self, before: &[NotInForce]) -> Vec<NotInForce> {
        let there = |list: &[NotInForce], note: &NotInForce| list.iter().any(|known| known.setting == note.setting);
        let more = before.iter().filter(|note| LimitKey::from_name(&note.setting).is_err() && !there(&self.not_in_force, note));
        let more: Vec<NotInForce> = more.cloned().collect();
        self.not_in_force.extend(more);
        self.not_in_force
    }
}

/// Who waits for a command to be carried out.
pub(crate) type Told = oneshot::Sender<Result<(), LifecycleError>>;

/// What becomes known of a worker once in each of its lives, beside its view.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The policy's grace.
    pub(crate) grace: Latest<Duration>,
    /// When its own process was started, clock ticks after boot.
    pub(crate) start_ticks: Latest<u64>,
    /// Its init's channel, which goes with its task.
    pub(crate) link: Latest<Weak<InitLink>>,
    /// Who looks at its sandbox on request, once its program runs.
    pub(crate) verify: Latest<mpsc::Sender<oneshot::Sender<()>>>,
    /// Its figures and their history.
    pub(crate) sampled: Sampled,
    /// What has happened to it.
    pub(crate) timeline: Arc<Mutex<Timeline>>,
    /// What the last probe of its start saw instead of an answer.
    pub(crate) last_probe: Arc<Mutex<Option<String>>>,
    /// What its start was decided by.
    pub(crate) decision: Latest<Arc<Decision>>,
    /// Its MPS daemon.
    pub(crate) mps: Latest<WorkerId>,
    /// Its GPUs' memory, and what has happened to them.
    pub(crate) gpus: GpusKnown,
    /// What the last update has put in force; `None` before the first. Who looks at the sandbox holds it, so that no look falls between the
    /// launcher's writes and this.
    pub(crate) in_force: Arc<RwLock<Option<InForce>>>,
    /// Limits that were changed since the start.
    pub(crate) updated: Mutex<BTreeSet<LimitKey>>,
    /// Its lives that are over.
    pub(crate) lives: Lives,
    /// How far its new starts have come.
    pub(crate) backoff: Mutex<Backoff>,
    /// What was asked for.
    pub(crate) asked: OnceLock<Asked>,
    /// The job that it was started by.
    pub(crate) job_id: OnceLock<String>,
    /// Its lease.
    pub(crate) lease_id: OnceLock<String>,
    /// What becomes of it when the hive ends.
    pub(crate) on_hive_exit: Latest<OnHiveExit>,
    /// Who has it frozen, while it is.
    pub(crate) frozen_by: Mutex<Option<FrozenBy>>,
    /// Who has asked for its end, while it comes to that.
    pub(crate) stopping: Mutex<Option<StoppedBy>>,
    /// Who keeps its record.
    pub(crate) kept: Mutex<Kept>,
}

/// What a start was decided by, for those who ask later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decision {
    /// Which version of the policy it was.
    pub(crate) policy_digest: u64,
    /// Limits that the request asked for.
    pub(crate) asked: Vec<LimitKey>,
    /// What is left of settings that are not in force as a whole.
    pub(crate) remains: Remains,
}

/// A worker, seen from outside of its task.
#[derive(Clone, Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) id: WorkerId,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) view: watch::Receiver<WorkerView>,
    pub(crate) usage: Arc<Usage>,
    pub(crate) known: Arc<Known>,
}

impl WorkerHandle {
    pub(crate) fn view(&self) -> WorkerView {
        self.view.borrow().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.usage.open()
    }

    /// Whether both are of one worker, and not of two that had one name after each other.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.commands.same_channel(&other.commands)
    }

    /// Waits until `done` holds of the view; the view then. `None`: the worker was refused after all, and there is none.
    pub(crate) async fn until(&self, done: impl Fn(&WorkerView) -> bool) -> Option<WorkerView> {
        let mut view = self.view.clone();
        // What ended stays to be seen when its task is gone; what did not end never had one.
        view.wait_for(|v| done(v)).await.ok().map(|found| found.clone())
    }

    /// The channel to its init, as long as it has one.
    pub(crate) fn link(&self) -> Option<Arc<InitLink>> {
        self.known.link.get()?.upgrade()
    }

    /// Whose processes are this worker's.
    pub(crate) fn owner(&self) -> Owner {
        Owner::of(&self.view.borrow(), self.known.start_ticks.get())
    }
}

impl WorkerView {
    /// Whether it is over and everything is taken back.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, WorkerState::Stopped | WorkerState::Failed)
    }

    /// Whether it was killed and its processes do not die; it has not ended then.
    pub fn is_unkillable(&self) -> bool {
        !self.has_ended() && self.verdict.as_ref().is_some_and(|v| matches!(v.verdict, Verdict::Unkillable { .. }))
    }
}
