//! From a request to an init, for the first life of a worker and for every later one: the same name, port and lease.
//!
//! Must never know: when a worker is started again.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rbee_hive_policy::exposure::Remains;
use rbee_hive_policy::{Life, LimitKey, LimitValue, NotInForce, RestartWhen, SandboxPlan, WorkerRequest};
use rbee_hive_sandbox::StoppedBy;
use rbee_hive_sandbox::protocol::{FromLauncher, ToInit};
use tokio::time::timeout;

use super::admit::policy;
use super::{Attached, Result, WorkerSpawner};
use crate::LifecycleError;
use crate::init_link::InitLink;
use crate::task::{Decision, Ends, NextLife, Starter, WorkerHandle};
use crate::{ErrorKind, launcher};

/// How long an init may take to end that was started without an answer, if one was.
const UNCLEAR_END: Duration = Duration::from_secs(10);

/// An init that is running.
pub(super) struct Made {
    pub(super) plan: SandboxPlan,
    pub(super) cgroup: Option<String>,
    pub(super) init_pid: i32,
    pub(super) not_in_force: Vec<NotInForce>,
    pub(super) policy_digest: u64,
    pub(super) link: Arc<InitLink>,
    pub(super) ends: Ends,
}

/// Why there is none.
pub(super) enum NotMade {
    /// The launcher has said so: nothing is left of it.
    Refused(LifecycleError),
    /// Nobody has said whether there is one; if there was, it had time to end.
    Unclear(LifecycleError),
}

impl WorkerSpawner {
    /// How a worker is started again; `None` without a launcher.
    pub(super) fn starter(&self, handle: &WorkerHandle, request: WorkerRequest) -> Option<Arc<dyn Starter>> {
        let attached = Arc::downgrade(self.attached.as_ref()?);
        Some(Arc::new(Restarter { attached, handle: handle.clone(), request: WorkerRequest { life: Life::Again, ..request } }))
    }
}

impl Attached {
    /// Has the launcher make an init.
    pub(super) async fn make_init(&self, request: WorkerRequest, port: Option<BorrowedFd<'_>>) -> std::result::Result<Made, NotMade> {
        let io =
            |e: std::io::Error| NotMade::Refused(LifecycleError::new(ErrorKind::SetupFailed, format!("make the channel to the init: {e}")));
        let (link, theirs, mut events) = InitLink::open().map_err(io)?;
        // Whatever ends the hive from here on, the worker's init has the port.
        if let Some(port) = port {
            link.keep_port(port).await.map_err(io)?;
        }
        let unclear = match self.tools.launcher.spawn(request, theirs).await {
            Ok(((FromLauncher::Spawned { plan, cgroup, init_pid, not_in_force, policy_digest, .. }, mut fds), released)) => match fds.pop()
            {
                Some(init) => {
                    let ends = Ends { events, init, released };
                    return Ok(Made { plan: *plan, cgroup, init_pid, not_in_force, policy_digest, link, ends });
                }
                None => launcher::gone(),
            },
            Ok(((FromLauncher::Refused { error, .. }, _), _)) => return Err(NotMade::Refused(error.into())),
            Ok(_) => launcher::gone(),
            Err(error) => error,
        };
        // Whether there is an init is not known. If there is one, it must not go on without an entry, and has its devices until it is gone:
        // its end of the link closes then.
        let _ = link.send(&ToInit::Stop { by: StoppedBy::Request, grace_ms: 0 }).await;
        let _ = timeout(UNCLEAR_END, async { while events.recv().await.is_some() {} }).await;
        Err(NotMade::Unclear(unclear))
    }

    /// What others are to know of the life that begins; what of its policy is not in force.
    pub(super) fn take_note(&self, handle: &WorkerHandle, made: &Made, request: &WorkerRequest) -> Vec<NotInForce> {
        let (plan, known) = (&made.plan, &handle.known);
        known.link.set(Arc::downgrade(&made.link));
        known.grace.set(Duration::from_millis(plan.stop.grace_ms));
        known.on_hive_exit.set(plan.on_hive_exit);
        if let Some(limit) = plan.gpu_memory {
            known.gpus.limit.set(limit);
        }
        let asked = request.limits.keys().copied().collect();
        known.decision.set(Arc::new(Decision { policy_digest: made.policy_digest, asked, remains: Remains::from(plan) }));
        let idle = crate::idle::notes(plan.idle, &self.tools.launcher.cgroup, made.cgroup.as_deref());
        made.not_in_force.iter().cloned().chain(idle).collect()
    }
}

/// Starts one worker again.
struct Restarter {
    /// It ends with the hive, not with its workers.
    attached: Weak<Attached>,
    handle: WorkerHandle,
    request: WorkerRequest,
}

impl Starter for Restarter {
    fn rest(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(attached) = self.attached.upgrade() {
                attached.mps.leave(&self.handle.id).await;
            }
        })
    }

    fn start<'a>(&'a self, limits: BTreeMap<LimitKey, LimitValue>, port: Option<BorrowedFd<'a>>) -> BoxFuture<'a, Result<NextLife>> {
        Box::pin(async move {
            let attached = self.attached.upgrade().ok_or_else(launcher::gone)?;
            self.start_with(&attached, (limits, port)).await
        })
    }
}

impl Restarter {
    async fn start_with(
        &self,
        attached: &Arc<Attached>,
        (limits, port): (BTreeMap<LimitKey, LimitValue>, Option<BorrowedFd<'_>>),
    ) -> Result<NextLife> {
        attached.may_start()?;
        let policy = policy(attached, &self.request.policy).await?;
        if policy.restart.when == RestartWhen::Never {
            let text = format!("the policy {} says so by now", self.request.policy);
            return Err(LifecycleError::new(ErrorKind::PolicyViolation, text));
        }
        let mut request = self.request.clone();
        request.mps = attached.mps(&request, &policy).await;
        request.limits.extend(limits);
        let made = match attached.make_init(request, port).await {
            Ok(made) => made,
            Err(NotMade::Refused(error) | NotMade::Unclear(error)) => {
                attached.mps.leave(&self.handle.id).await;
                return Err(error);
            }
        };
        let known = &self.handle.known;
        known.mps.clear();
        known.gpus.limit.clear();
        known.gpus.begin_anew();
        let notes = attached.take_note(&self.handle, &made, &self.request);
        attached.set_mps(&made.plan, &self.handle);
        self.remember(attached, made.policy_digest);
        let Made { plan, cgroup, init_pid, link, ends, .. } = made;
        Ok(NextLife { plan, link, cgroup, init_pid, notes, ends })
    }

    /// Its policy may be another version by now.
    fn remember(&self, attached: &Arc<Attached>, digest: u64) {
        let (attached, policy) = (Arc::clone(attached), self.request.policy.clone());
        tokio::spawn(async move { drop(attached.version(&policy, digest).await) });
    }
}
