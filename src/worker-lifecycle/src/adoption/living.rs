//! A worker that lives, or is to live again, on its way to a task of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rbee_hive_policy::exposure::Remains;
use rbee_hive_policy::{GpuLease, NotInForce, SandboxPlan};
use rbee_hive_sandbox::Verdict;
use rbee_hive_sandbox::protocol::{CgroupFacts, Resources};
use tokio::sync::watch;

use super::join::bare_view;
use super::{Down, Living};
use crate::channel::lock;
use crate::init_link::InitLink;
use crate::leases::{Held, share_of};
use crate::records::WorkerRecord;
use crate::registry::PortLease;
use crate::state::Before;
use crate::task::{self, Begins, Born, Decision, Ends, InForce, Known, Story, Tools, WorkerHandle};
use crate::{WorkerState, WorkerView};

/// What a task is given beside its worker.
pub(crate) struct Birth {
    pub(crate) tools: Arc<Tools>,
    pub(crate) port: Option<PortLease>,
}

/// What it has.
pub(crate) fn held(plan: &SandboxPlan, record: Option<&WorkerRecord>) -> Held {
    let (id, share) = match &plan.lease {
        Some(GpuLease { id, share }) => (Some(id.clone()), share_of(*share)),
        None => (record.and_then(|r| r.lease_id.clone()), rbee_hive_devices::Share::Exclusive),
    };
    Held { worker: plan.worker_id.to_string(), lease_id: id, share, devices: plan.leased.clone() }
}

/// What its task begins with; `None` where the channel to its init can't be used. Called inside the runtime.
pub(crate) fn born(living: Living, Birth { tools, port }: Birth) -> Option<(Born, WorkerHandle)> {
    let view = watch::Sender::new(view(&living, &tools.launcher.cgroup));
    let Living { found, released, plan, record } = living;
    let (init, channel) = found.init?;
    let (link, events) = match InitLink::attach(channel) {
        Ok(attached) => attached,
        Err(error) => {
            tracing::error!(worker = %found.worker_id, %error, "the channel to a living worker's init can't be used");
            return None;
        }
    };
    let (commands_in, commands) = task::commands();
    let known = Arc::new(known(record.as_ref(), (&plan, found.policy_digest)));
    known.link.set(Arc::downgrade(&link));
    let handle = WorkerHandle { id: found.worker_id, commands: commands_in, view: view.subscribe(), usage: Arc::default(), known };
    let story = Story::new(tools.narrator.clone(), record.as_ref().and_then(|r| r.job_id.clone()));
    let before = record.as_ref().map(Before::of).unwrap_or_default();
    let begins = Begins::Found(Ends { events, init, released }, before);
    let born = Born { plan: *plan, link, begins, port, commands, view, story, tools, handle: handle.clone(), again: None };
    Some((born, handle))
}

/// The same for one that is to be started again: there is no init until then.
///
/// Errors: no channel could be made.
pub(crate) fn born_down(down: Down, Birth { tools, port }: Birth) -> io::Result<(Born, WorkerHandle)> {
    let Down { record, plan, next, .. } = down;
    // Nobody is at its other end.
    let (link, ..) = InitLink::open()?;
    let (commands_in, commands) = task::commands();
    let known = Arc::new(known(Some(&record), (&plan, None)));
    lock(&known.backoff).clone_from(&record.backoff);
    let story = Story::new(tools.narrator.clone(), record.job_id);
    let verdict = record.worker.verdict.as_ref().map_or_else(|| Verdict::Lost { why: "nobody knows".into() }, |v| v.verdict.clone());
    let begins = Begins::Down(Box::new(task::Down { verdict, resources: record.worker.resources, next }));
    let view = watch::Sender::new(record.worker);
    let handle = WorkerHandle { id: plan.worker_id.clone(), commands: commands_in, view: view.subscribe(), usage: Arc::default(), known };
    let born = Born { plan: *plan, link, begins, port, commands, view, story, tools, handle: handle.clone(), again: None };
    Ok((born, handle))
}

/// As the hive before saw it, with what the launcher says now; where it is its init will say.
fn view(living: &Living, cgroup: &CgroupFacts) -> WorkerView {
    let Living { found, plan, record, .. } = living;
    let bare = bare_view(found, cgroup);
    let idle = crate::idle::notes(plan.idle, cgroup, found.cgroup.as_deref());
    let notes: Vec<NotInForce> = found.not_in_force.iter().cloned().chain(idle).collect();
    let Some(WorkerRecord { worker: seen, .. }) = record else { return WorkerView { not_in_force: notes, ..bare } };
    // Its hive has ended before it could write down that the next life had begun.
    let seen = if seen.state == WorkerState::Restarting { &reborn(seen) } else { seen };
    WorkerView {
        // Others may have come to know more than the launcher, but not about limits.
        not_in_force: InForce { limits: plan.limits.clone(), not_in_force: notes.clone() }.with_what_others_knew(&seen.not_in_force),
        // One that was taken for over lives all the same.
        state: if seen.has_ended() { WorkerState::Starting } else { seen.state },
        pid: None,
        drift: vec![],
        ended_at: None,
        verdict: None,
        init_pid: bare.init_pid,
        cgroup: bare.cgroup,
        limits: bare.limits,
        port: bare.port,
        endpoint: bare.endpoint,
        devices: bare.devices,
        resources: Resources::default(),
        unmeasured: bare.unmeasured,
        ..seen.clone()
    }
}

fn reborn(seen: &WorkerView) -> WorkerView {
    WorkerView {
        state: WorkerState::Starting,
        restarts: seen.restarts.saturating_add(1),
        started_at: None,
        ready_at: None,
        status_text: None,
        ..seen.clone()
    }
}

/// What is known of it beside its view.
fn known(record: Option<&WorkerRecord>, (plan, policy_digest): (&SandboxPlan, Option<u64>)) -> Known {
    let known = record.map(WorkerRecord::known_to_go_on).unwrap_or_default();
    lock(&known.backoff).due_at = None;
    known.grace.set(Duration::from_millis(plan.stop.grace_ms));
    known.on_hive_exit.set(plan.on_hive_exit);
    if let Some(limit) = plan.gpu_memory {
        known.gpus.limit.set(limit);
    }
    // A start whose answer never came was not written down; what was asked for was.
    if let (None, Some(policy_digest), Some(asked)) = (known.decision.get(), policy_digest, known.asked.get()) {
        let asked = asked.limits.keys().copied().collect();
        known.decision.set(Arc::new(Decision { policy_digest, asked, remains: Remains::from(plan) }));
    }
    known
}

impl Before {
    /// What a record tells.
    fn of(record: &WorkerRecord) -> Self {
        // Of one that was down then it is the life before that was ready.
        let was_ready = record.worker.ready_at.is_some() && record.worker.state != WorkerState::Restarting;
        Self { was_ready, frozen_by: record.frozen_by }
    }
}
