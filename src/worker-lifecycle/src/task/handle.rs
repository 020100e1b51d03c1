//! What others hold of a worker.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use rbee_hive_policy::exposure::Remains;
use rbee_hive_policy::{LimitKey, Limits, NotInForce, WorkerId};
use rbee_hive_sandbox::StoppedBy;
use tokio::sync::{RwLock, mpsc, oneshot, watch};

use super::gpus::GpusKnown;
use crate::init_link::InitLink;
use crate::processes::Owner;
use crate::reach::Usage;
use crate::sampling::Sampled;
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
}

/// Who waits for a command to be carried out.
pub(crate) type Told = oneshot::Sender<Result<(), LifecycleError>>;

/// What becomes known of a worker once and stays, beside its view.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The policy's grace.
    pub(crate) grace: OnceLock<Duration>,
    /// When its own process was started, clock ticks after boot.
    pub(crate) start_ticks: OnceLock<u64>,
    /// Its init's channel, which goes with its task.
    pub(crate) link: OnceLock<Weak<InitLink>>,
    /// Who looks at its sandbox on request, once its program runs.
    pub(crate) verify: OnceLock<mpsc::Sender<oneshot::Sender<()>>>,
    /// Its figures and their history.
    pub(crate) sampled: Sampled,
    /// What its start was decided by.
    pub(crate) decision: OnceLock<Decision>,
    /// Its MPS daemon.
    pub(crate) mps: OnceLock<WorkerId>,
    /// Its GPUs' memory, and what has happened to them.
    pub(crate) gpus: GpusKnown,
    /// What the last update has put in force; `None` before the first. Who looks at the sandbox holds it, so that no look falls between the
    /// launcher's writes and this.
    pub(crate) in_force: Arc<RwLock<Option<InForce>>>,
    /// Limits that were changed since the start.
    pub(crate) updated: Mutex<BTreeSet<LimitKey>>,
}

/// What a start was decided by, for those who ask later.
#[derive(Debug)]
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
        let view = self.view.borrow();
        Owner {
            worker_id: view.worker_id.clone(),
            leaf: view.cgroup.path.clone(),
            pid: view.pid,
            start_ticks: self.known.start_ticks.get().copied(),
        }
    }
}

impl WorkerView {
    /// Whether it is over and everything is taken back.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, WorkerState::Stopped | WorkerState::Failed)
    }
}
